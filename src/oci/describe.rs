//! The documents of an image that is made: its config and its manifest.
//!
//! They are written as sorted, compact JSON: the same values give the same bytes.

use serde_json::{Map, Value, json};

use super::build::{BuiltLayer, Part, PartBytes};
use super::compress::Compression;
use super::config::seconds_of;
use super::digest::{Algorithm, Digest};
use super::document::{MediaType, Role};
use super::normalize;
use crate::object::Config;

/// What one commit says in the config's history.
pub(super) struct HistoryStep<'s> {
    pub(super) text: &'s str,
    pub(super) time_seconds: i64,
    /// It changed no file.
    pub(super) empty: bool,
}

/// The media type of a layer that is compressed that way.
pub(super) fn layer_media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip(_) => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd(_) => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

/// A config as it came, to be built upon; `None` when it is no JSON object.
pub(super) fn raw_config(bytes: &[u8]) -> Option<Value> {
    normalize::parse(bytes).ok().filter(Value::is_object)
}

/// When an image was made, by its config as it came.
pub(super) fn created_seconds(raw: &Value) -> Option<i64> {
    seconds_of(raw.get("created")?.as_str()?)
}

/// The config of an image. What `raw` says and a state does not know stays.
pub(super) fn config(
    config: &Config,
    base: Option<&Config>,
    raw: Option<Value>,
    created_seconds: Option<i64>,
    diff_ids: &[Digest],
    history: Vec<Value>,
) -> Part {
    let mut document = match raw {
        Some(Value::Object(document)) => document,
        _ => Map::new(),
    };
    // They describe the container that the old image was committed from.
    for key in ["container", "container_config", "id", "parent"] {
        document.remove(key);
    }
    let platform = &config.platform;
    document.insert("os".into(), json!(platform.os));
    document.insert("architecture".into(), json!(platform.architecture));
    match platform.variant.is_empty() {
        true => document.remove("variant"),
        false => document.insert("variant".into(), json!(platform.variant)),
    };
    if let Some(created) = created_seconds {
        document.insert("created".into(), json!(rfc3339(created)));
    }
    let runtime = document.entry("config").or_insert_with(|| json!({}));
    if !runtime.is_object() {
        *runtime = json!({});
    }
    if let Value::Object(runtime) = runtime {
        runtime_config(config, base, runtime);
    }
    let diff_ids: Vec<_> = diff_ids.iter().map(ToString::to_string).collect();
    document.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
    document.insert("history".into(), Value::Array(history));
    part(&Value::Object(document), MediaType::ImageConfig.to_string())
}

/// Sets what differs from the base: its other fields stay as they were written.
fn runtime_config(config: &Config, base: Option<&Config>, runtime: &mut Map<String, Value>) {
    let set = |keys: &[String]| Value::Object(keys.iter().map(|key| (key.clone(), json!({}))).collect());
    let fields = [
        ("Env", config.env.is_empty(), json!(config.env), base.map(|base| base.env == config.env)),
        (
            "WorkingDir",
            config.workdir.is_empty(),
            json!(config.workdir),
            base.map(|base| base.workdir == config.workdir),
        ),
        ("User", config.user.is_empty(), json!(config.user), base.map(|base| base.user == config.user)),
        (
            "Entrypoint",
            config.entrypoint.is_empty(),
            json!(config.entrypoint),
            base.map(|base| base.entrypoint == config.entrypoint),
        ),
        ("Cmd", config.cmd.is_empty(), json!(config.cmd), base.map(|base| base.cmd == config.cmd)),
        (
            "Labels",
            config.labels.is_empty(),
            json!(config.labels),
            base.map(|base| base.labels == config.labels),
        ),
        (
            "ExposedPorts",
            config.exposed_ports.is_empty(),
            set(&config.exposed_ports),
            base.map(|base| base.exposed_ports == config.exposed_ports),
        ),
        (
            "Volumes",
            config.volumes.is_empty(),
            set(&config.volumes),
            base.map(|base| base.volumes == config.volumes),
        ),
        (
            "StopSignal",
            config.stop_signal.is_empty(),
            json!(config.stop_signal),
            base.map(|base| base.stop_signal == config.stop_signal),
        ),
    ];
    for (key, empty, value, same) in fields {
        match (same, empty) {
            (Some(true), _) => {}
            (_, true) => {
                runtime.remove(key);
            }
            (_, false) => {
                runtime.insert(key.into(), value);
            }
        }
    }
}

/// The history of an image with a layer for each commit upon `layers_below` others.
pub(super) fn history(raw: Option<&Value>, layers_below: usize, steps: &[HistoryStep<'_>]) -> Vec<Value> {
    let mut entries = raw_history(raw);
    let filled = entries.iter().filter(|entry| !is_empty(entry)).count();
    // Readers take one entry that is not empty for each layer, and refuse the image otherwise.
    if filled != layers_below {
        entries = (0..layers_below).map(|_| json!({"created_by": "imported layer"})).collect();
    }
    entries.extend(steps.iter().map(entry));
    entries
}

/// The history of an image of one layer: everything that led to it, the last with the layer.
pub(super) fn history_of_one(raw: Option<&Value>, steps: &[HistoryStep<'_>]) -> Vec<Value> {
    let mut entries = raw_history(raw);
    entries.extend(steps.iter().map(entry));
    if entries.is_empty() {
        entries.push(json!({"created_by": "treebox export"}));
    }
    let last = entries.len() - 1;
    for (number, entry) in entries.iter_mut().enumerate() {
        if let Value::Object(entry) = entry {
            match number == last {
                true => entry.remove("empty_layer"),
                false => entry.insert("empty_layer".into(), json!(true)),
            };
        }
    }
    entries
}

fn raw_history(raw: Option<&Value>) -> Vec<Value> {
    let entries = raw.and_then(|raw| raw.get("history")).and_then(Value::as_array).cloned();
    entries.unwrap_or_default().into_iter().filter(Value::is_object).collect()
}

fn is_empty(entry: &Value) -> bool {
    entry.get("empty_layer").and_then(Value::as_bool).unwrap_or(false)
}

fn entry(step: &HistoryStep<'_>) -> Value {
    let mut entry =
        json!({"created": rfc3339(step.time_seconds), "created_by": step.text, "comment": "treebox"});
    if step.empty {
        entry["empty_layer"] = json!(true);
    }
    entry
}

/// The manifest of an image.
pub(super) fn manifest(config: &Part, layers: &[BuiltLayer]) -> Part {
    let descriptor = |part: &Part, media_type: &str| json!({"mediaType": media_type, "digest": part.digest.to_string(), "size": part.size});
    let layers: Vec<_> =
        layers.iter().map(|layer| descriptor(&layer.part, oci_layer_type(&layer.part.media_type))).collect();
    let media_type = MediaType::ImageManifest.to_string();
    let config = descriptor(config, MediaType::ImageConfig.as_ref());
    part(
        &json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}),
        media_type,
    )
}

/// A layer's type in an OCI manifest: Docker has other names for the same.
fn oci_layer_type(media_type: &str) -> &str {
    let foreign = Role::of(&MediaType::from(media_type)) == Role::ForeignLayer;
    match media_type.strip_prefix("application/vnd.docker.image.rootfs.") {
        Some(_) if foreign => media_type,
        Some(rest) if rest.ends_with("gzip") => layer_media_type(Compression::GZIP),
        Some(rest) if rest.ends_with("zstd") => layer_media_type(Compression::ZSTD),
        Some(_) => layer_media_type(Compression::None),
        None => media_type,
    }
}

fn part(document: &Value, media_type: String) -> Part {
    // A map of serde_json is sorted by key, and text and whole numbers have one spelling.
    let bytes = document.to_string().into_bytes();
    Part {
        digest: Digest::of(Algorithm::Sha256, &bytes),
        size: bytes.len() as u64,
        media_type,
        bytes: PartBytes::Memory(bytes),
    }
}

/// A time as configs have it; one beyond what can be said is the first of 1970.
fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
