//! JSON of images in the wild into what `oci-spec` reads.
//!
//! Go writes null for what is empty, old Docker left fields out and wrote one text for a command, and everything may hold more than the
//! specification says. Only what treebox reads is put right here; fields that it does not read and that could be refused are left out.

use std::fmt;

use oci_spec::image as spec;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use super::error::ImportError;

type Object = Map<String, Value>;

/// Reads JSON; an object with one key twice, which two programs may read as two things, is refused.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).map(|Unambiguous(value)| value)
}

/// An index for `oci-spec`.
pub(super) fn index(value: &mut Value) -> Result<(), ImportError> {
    without_nulls(value);
    let Some(index) = value.as_object_mut() else { return Ok(()) };
    keep(index, &["schemaVersion", "mediaType", "artifactType", "manifests"]);
    default(index, "schemaVersion", json!(2));
    descriptors(index.get_mut("manifests"), "the digest of a manifest")
}

/// A manifest for `oci-spec`.
pub(super) fn manifest(value: &mut Value) -> Result<(), ImportError> {
    without_nulls(value);
    let Some(manifest) = value.as_object_mut() else { return Ok(()) };
    keep(manifest, &["schemaVersion", "mediaType", "artifactType", "config", "layers"]);
    default(manifest, "schemaVersion", json!(2));
    default(manifest, "layers", json!([]));
    if let Some(config) = manifest.get_mut("config") {
        descriptor(config, "the digest of the config")?;
    }
    descriptors(manifest.get_mut("layers"), "the digest of a layer")
}

/// A config for `oci-spec`.
pub(super) fn config(value: &mut Value) {
    let runtime =
        |value: &mut Value| value.get_mut("config").and_then(Value::as_object_mut).map(std::mem::take);
    let mut runtime = runtime(value);
    if let Some(runtime) = &mut runtime {
        // Here a null has a meaning of its own: the key is there.
        for key in ["ExposedPorts", "Volumes"] {
            each(runtime.get_mut(key), |value| *value = json!({}));
        }
        each(runtime.get_mut("Labels"), |value| {
            if value.is_null() {
                *value = json!("");
            }
        });
        for key in ["Cmd", "Entrypoint"] {
            if let Some(Value::String(word)) = runtime.get_mut(key).map(|value| &*value) {
                let words = if word.is_empty() { json!([]) } else { json!([word]) };
                runtime.insert(key.to_owned(), words);
            }
        }
    }
    if let (Some(runtime), Some(config)) = (runtime, value.as_object_mut()) {
        config.insert("config".to_owned(), Value::Object(runtime));
    }
    without_nulls(value);
    let Some(config) = value.as_object_mut() else { return };
    keep(config, &["created", "architecture", "os", "variant", "config", "rootfs"]);
    default(config, "architecture", json!(""));
    default(config, "os", json!(""));
    default(config, "rootfs", json!({}));
    if let Some(rootfs) = config.get_mut("rootfs").and_then(Value::as_object_mut) {
        rootfs.insert("type".to_owned(), json!("layers"));
        default(rootfs, "diff_ids", json!([]));
    }
}

fn descriptors(list: Option<&mut Value>, what: &str) -> Result<(), ImportError> {
    let list = list.and_then(Value::as_array_mut).into_iter().flatten();
    list.into_iter().try_for_each(|value| descriptor(value, what))
}

fn descriptor(value: &mut Value, what: &str) -> Result<(), ImportError> {
    let Some(descriptor) = value.as_object_mut() else { return Ok(()) };
    keep(descriptor, &["mediaType", "digest", "size", "annotations", "platform", "artifactType"]);
    default(descriptor, "mediaType", json!(""));
    if let Some(platform) = descriptor.get_mut("platform").and_then(Value::as_object_mut) {
        keep(platform, &["os", "architecture", "variant"]);
        default(platform, "os", json!(""));
        default(platform, "architecture", json!(""));
    }
    // `oci-spec` refuses a malformed digest too; here it can be told which one.
    match descriptor.get("digest") {
        Some(Value::String(text)) if spec::Digest::try_from(text.as_str()).is_err() => {
            Err(ImportError::Digest { what: what.to_owned(), text: text.chars().take(80).collect() })
        }
        _ => Ok(()),
    }
}

fn default(object: &mut Object, key: &str, value: Value) {
    object.entry(key).or_insert(value);
}

fn keep(object: &mut Object, keys: &[&str]) {
    object.retain(|key, _| keys.contains(&key.as_str()));
}

fn each(map: Option<&mut Value>, change: impl FnMut(&mut Value)) {
    map.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut).for_each(change);
}

/// Takes every field away that is null, at any depth. The parser bounds the depth.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// A JSON value in which every key of an object stands once.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Once).map(Self)
    }
}

struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unambiguous(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some((key, Unambiguous(value))) = map.next_entry::<String, _>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{key}` stands twice in one object")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{self, Document};
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        assert!(parse(br#"{"a":1,"b":{"c":null,"d":[1.5,-2,true]}}"#).is_ok());
        assert!(parse(br#"{"a":1,"b":{"c":null,"c":1}}"#).is_err());
        assert!(parse(br#"{"layers":[],"layers":[]}"#).is_err());
    }

    #[test]
    fn nulls_and_what_is_not_read_do_no_harm() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let text = format!(
            r#"{{"mediaType":null,"annotations":{{"a":1}},"subject":"x","layers":null,
                "config":{{"digest":"{digest}","size":2,"urls":null,"data":7,"annotations":{{"a":null}},"platform":{{"os":null,"features":3}}}}}}"#
        );
        let Document::Manifest(manifest) = Document::read(text.as_bytes(), "it").unwrap() else { panic!() };
        assert_eq!((manifest.layers().len(), manifest.config().size()), (0, 2));
        assert_eq!(manifest.config().media_type().as_ref(), "");
        let config =
            br#"{"history":[null,{"created":3}],"author":null,"rootfs":{"type":null,"diff_ids":null}}"#;
        assert!(document::config(config, "it").unwrap().rootfs().diff_ids().is_empty());
    }

    #[test]
    fn a_layout_of_another_major_version_is_refused() {
        assert!(document::check_layout(br#"{"imageLayoutVersion":"1.1.0","more":null}"#, "it").is_ok());
        assert!(document::check_layout(br#"{"imageLayoutVersion":"2.0.0"}"#, "it").is_err());
        assert!(document::check_layout(b"{}", "it").is_err());
    }
}
