//! An image's config into a state's.

use super::document::{ConfigJson, RuntimeJson, Words};
use crate::object::{Config, Platform};

/// The runtime config that an image config gives; what is missing there is empty here.
///
/// A variable without `=` is left out: Docker hands it to the process as it is, where nothing can look it up.
pub(super) fn runtime_config(image: &ConfigJson) -> Config {
    let host = Platform::host();
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let platform = Platform {
        os: given(&image.os).unwrap_or(host.os),
        architecture: given(&image.architecture).unwrap_or(host.architecture),
        variant: given(&image.variant).unwrap_or_default(),
    };
    let runtime: RuntimeJson = image.config.clone().unwrap_or_default();
    let is_variable = |text: &String| text.find('=').is_some_and(|at| at > 0) && !text.contains('\0');
    let words = |words: Option<Words>| words.map(Words::into_vec).unwrap_or_default();
    Config {
        platform,
        env: runtime.env.unwrap_or_default().into_iter().filter(is_variable).collect(),
        workdir: runtime.working_dir.unwrap_or_default(),
        user: runtime.user.unwrap_or_default(),
        entrypoint: words(runtime.entrypoint),
        cmd: words(runtime.cmd),
        labels: runtime
            .labels
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect(),
        exposed_ports: runtime.exposed_ports.unwrap_or_default().into_keys().collect(),
        volumes: runtime.volumes.unwrap_or_default().into_keys().collect(),
        stop_signal: runtime.stop_signal.unwrap_or_default(),
    }
}

/// When the image was made, in seconds since 1970; `None` when the config does not say or says nonsense.
pub(super) fn created_seconds(image: &ConfigJson) -> Option<i64> {
    image.created.as_deref()?.parse::<jiff::Timestamp>().ok().map(|time| time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_null_and_odd_fields_do_no_harm() {
        for text in
            ["{}", r#"{"config":null,"rootfs":null}"#, r#"{"config":{"Env":null,"Cmd":null,"Labels":null}}"#]
        {
            let image: ConfigJson = serde_json::from_str(text).unwrap();
            assert_eq!(runtime_config(&image), Config::default());
        }
        let text = r#"{"created":"2024-01-02T03:04:05.5Z","os":"linux","architecture":"arm","variant":"v7","config":{
            "Env":["A=1","NOEQUALS","=x","B="],"Cmd":"one","Entrypoint":["a","b"],"WorkingDir":"/w","User":"1:2",
            "Labels":{"k":"v","n":null},"ExposedPorts":{"80/tcp":{},"443/tcp":{}},"Volumes":{"/b":{},"/a":{}},"StopSignal":"9","Healthcheck":{}}}"#;
        let image: ConfigJson = serde_json::from_str(text).unwrap();
        let config = runtime_config(&image);
        assert_eq!(config.env, ["A=1", "B="]);
        assert_eq!(
            (config.cmd.as_slice(), config.entrypoint.as_slice()),
            (&["one".to_owned()][..], &["a".to_owned(), "b".to_owned()][..])
        );
        assert_eq!(config.exposed_ports, ["443/tcp", "80/tcp"]);
        assert_eq!(config.volumes, ["/a", "/b"]);
        assert_eq!(config.platform.to_string(), "linux/arm/v7");
        assert_eq!(config.labels["n"], "");
        assert_eq!(created_seconds(&image), Some(1_704_164_645));
    }
}
