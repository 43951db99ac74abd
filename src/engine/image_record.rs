//! What a commit's `state.json` says of the image that was imported.

use serde_json::{Value, json};

use crate::oci::{Digest, DocumentFacts, ImageFacts, LayerFacts};

/// The value of the key `image`.
pub(super) fn write(image: &ImageFacts) -> Value {
    json!({
        "manifest": image.manifest.as_ref().map(document),
        "config": document(&image.config),
        "layers": image.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}

/// Reads what [`write`] wrote; `None` for anything else.
pub(super) fn read(value: &Value) -> Option<ImageFacts> {
    let manifest = match value.get("manifest")? {
        Value::Null => None,
        manifest => Some(read_document(manifest)?),
    };
    let layers = value.get("layers")?.as_array()?.iter().map(read_layer).collect::<Option<_>>()?;
    Some(ImageFacts { manifest, config: read_document(value.get("config")?)?, layers })
}

fn document(document: &DocumentFacts) -> Value {
    json!({
        "digest": document.digest.to_string(),
        "media_type": document.media_type,
        "size": document.size,
    })
}

fn layer(layer: &LayerFacts) -> Value {
    json!({
        "digest": layer.digest.to_string(),
        "diff_id": layer.diff_id.to_string(),
        "media_type": layer.media_type,
        "size": layer.size,
    })
}

fn read_document(value: &Value) -> Option<DocumentFacts> {
    Some(DocumentFacts {
        digest: digest(value, "digest")?,
        media_type: value.get("media_type")?.as_str()?.to_owned(),
        size: value.get("size")?.as_u64()?,
    })
}

fn read_layer(value: &Value) -> Option<LayerFacts> {
    Some(LayerFacts {
        digest: digest(value, "digest")?,
        diff_id: digest(value, "diff_id")?,
        size: value.get("size")?.as_u64()?,
        media_type: value.get("media_type")?.as_str()?.to_owned(),
    })
}

fn digest(value: &Value, key: &str) -> Option<Digest> {
    Digest::parse(value.get(key)?.as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let digest = |byte: &str| Digest::parse(&format!("sha256:{}", byte.repeat(32))).unwrap();
        let document = |byte| DocumentFacts { digest: digest(byte), media_type: "a/b".into(), size: 7 };
        for manifest in [None, Some(document("01"))] {
            let layer = LayerFacts {
                digest: digest("03"),
                diff_id: digest("04"),
                size: u64::MAX,
                media_type: "layer".into(),
            };
            let image = ImageFacts { manifest, config: document("02"), layers: vec![layer] };
            assert_eq!(read(&write(&image)), Some(image));
        }
        for bad in
            [json!(null), json!({}), json!({"manifest": null, "config": {"digest": "x"}, "layers": []})]
        {
            assert_eq!(read(&bad), None);
        }
    }
}
