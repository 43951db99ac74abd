//! An image's config into a state's.

use oci_spec::image::ImageConfiguration;

use crate::object::{Config, Platform};

/// The runtime config that an image config gives; what is missing there is empty here.
///
/// A variable without `=` is left out: Docker hands it to the process as it is, where nothing can look it up.
pub(super) fn runtime_config(image: &ImageConfiguration) -> Config {
    let host = Platform::host();
    let given = |text: String, otherwise: String| if text.is_empty() { otherwise } else { text };
    let platform = Platform {
        os: given(image.os().to_string(), host.os),
        architecture: given(image.architecture().to_string(), host.architecture),
        variant: image.variant().clone().unwrap_or_default(),
    };
    let runtime = image.config().clone().unwrap_or_default();
    let is_variable = |text: &String| text.find('=').is_some_and(|at| at > 0) && !text.contains('\0');
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    // The type keeps the keys of these two in no order.
    let sorted = |keys: &Option<Vec<String>>| {
        let mut keys = list(keys);
        keys.sort();
        keys
    };
    Config {
        platform,
        env: list(runtime.env()).into_iter().filter(is_variable).collect(),
        workdir: text(runtime.working_dir()),
        user: text(runtime.user()),
        entrypoint: list(runtime.entrypoint()),
        cmd: list(runtime.cmd()),
        labels: runtime.labels().clone().unwrap_or_default().into_iter().collect(),
        exposed_ports: sorted(runtime.exposed_ports()),
        volumes: sorted(runtime.volumes()),
        stop_signal: text(runtime.stop_signal()),
    }
}

/// When the image was made, in seconds since 1970; `None` when the config does not say or says nonsense.
pub(super) fn created_seconds(image: &ImageConfiguration) -> Option<i64> {
    seconds_of(image.created().as_deref()?)
}

/// A time as configs have it, in seconds since 1970.
pub(super) fn seconds_of(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_second())
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;

    #[test]
    fn missing_null_and_odd_fields_do_no_harm() {
        for text in
            ["{}", r#"{"config":null,"rootfs":null}"#, r#"{"config":{"Env":null,"Cmd":null,"Labels":null}}"#]
        {
            let image = document::config(text.as_bytes(), "it").unwrap();
            assert_eq!(runtime_config(&image), Config::default());
        }
        let text = r#"{"created":"2024-01-02T03:04:05.5Z","os":"linux","architecture":"arm","variant":"v7","config":{
            "Env":["A=1","NOEQUALS","=x","B="],"Cmd":"one","Entrypoint":["a","b"],"WorkingDir":"/w","User":"1:2",
            "Labels":{"k":"v","n":null},"ExposedPorts":{"80/tcp":{},"443/tcp":{}},"Volumes":{"/b":{},"/a":{}},"StopSignal":"9","Healthcheck":{}}}"#;
        let image = document::config(text.as_bytes(), "it").unwrap();
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
