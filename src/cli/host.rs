//! What is taken from the host's environment.

use super::exit::Failure;

/// A variable of the host's environment.
pub(super) fn variable(key: &str) -> Result<Option<String>, Failure> {
    let Some(value) = std::env::var_os(key) else { return Ok(None) };
    let text = value.into_string();
    text.map(Some).map_err(|_| Failure::refused(format!("the host's variable {key} is not UTF-8")))
}

/// The time that reproducible builds agree on; see <https://reproducible-builds.org/specs/source-date-epoch/>.
pub(super) fn source_date_epoch() -> Result<Option<i64>, Failure> {
    match variable("SOURCE_DATE_EPOCH")? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            Failure::refused(format!("SOURCE_DATE_EPOCH is `{text}`, which is no number of seconds"))
        }),
    }
}
