//! Access to a registry: basic authentication, or a token from the service that the registry names.

use http_auth::{ChallengeParser, ChallengeRef};
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Url};
use serde::Deserialize;

use super::client::{BodyError, Client, bounded, message};
use super::error::RegistryError;
use super::options::{Credentials, Secret};

/// Tokens have a few kilobytes.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// What is sent along with requests. It has no debug output.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) enum Access {
    #[default]
    Open,
    Basic {
        user: String,
        password: String,
    },
    Bearer(String),
}

impl Access {
    pub(super) fn apply(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Open => request,
            Self::Basic { user, password } => request.basic_auth(user, Some(password)),
            Self::Bearer(token) => request.bearer_auth(token),
        }
    }
}

/// What a registry asks of those who come without access.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    basic: bool,
    bearer: Option<Bearer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bearer {
    realm: String,
    service: Option<String>,
}

impl Challenge {
    /// Reads the `WWW-Authenticate` headers; what is not understood is left out.
    pub(super) fn read<'h>(headers: impl IntoIterator<Item = &'h HeaderValue>) -> Self {
        let mut challenge = Self::default();
        for text in headers.into_iter().filter_map(|header| header.to_str().ok()) {
            for part in ChallengeParser::new(text).flatten() {
                if part.scheme.eq_ignore_ascii_case("basic") {
                    challenge.basic = true;
                } else if part.scheme.eq_ignore_ascii_case("bearer") && challenge.bearer.is_none() {
                    challenge.bearer = Bearer::of(&part);
                }
            }
        }
        challenge
    }
}

impl Bearer {
    fn of(challenge: &ChallengeRef<'_>) -> Option<Self> {
        let parameter = |key: &str| {
            let mut all = challenge.params.iter();
            all.find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.to_unescaped())
        };
        Some(Self { realm: parameter("realm")?, service: parameter("service") })
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Client {
    /// Gets what a challenge asks for; `None` when there is nothing to offer.
    pub(super) async fn gain_access(
        &self,
        challenge: &Challenge,
        scopes: &[String],
    ) -> Result<Option<Access>, RegistryError> {
        if let Some(bearer) = &challenge.bearer {
            return self.fetch_token(bearer, scopes).await.map(Some);
        }
        match &self.credentials {
            Some(Credentials { user, secret: Secret::Password(password) }) if challenge.basic => {
                Ok(Some(Access::Basic { user: user.clone(), password: password.clone() }))
            }
            _ => Ok(None),
        }
    }

    async fn fetch_token(&self, bearer: &Bearer, scopes: &[String]) -> Result<Access, RegistryError> {
        let protocol = |host: &str, reason: &str| RegistryError::Protocol {
            host: host.to_owned(),
            reason: reason.to_owned(),
        };
        let realm = Url::parse(&bearer.realm)
            .map_err(|_| protocol(self.host(), "the address of its token service is none"))?;
        let host = realm.host_str().unwrap_or_default().to_owned();
        // The token is as good as a password for a while: it does not travel less protected than the registry itself is asked for.
        let safe = realm.scheme() == "https" || realm.scheme() == "http" && self.endpoint.insecure;
        if !safe || !realm.username().is_empty() {
            return Err(protocol(self.host(), "its token service is not reached by HTTPS"));
        }
        let mut query: Vec<(&str, &str)> = scopes.iter().map(|scope| ("scope", scope.as_str())).collect();
        query.extend(bearer.service.as_deref().map(|service| ("service", service)));
        let what = "a token";
        let make = |_: &str| match &self.credentials {
            None => self.http().get(realm.clone()).query(&query),
            Some(Credentials { user, secret: Secret::Password(password) }) => {
                self.http().get(realm.clone()).query(&query).basic_auth(user, Some(password))
            }
            Some(Credentials { secret: Secret::IdentityToken(token), .. }) => {
                let joined = scopes.join(" ");
                let service = bearer.service.as_deref().unwrap_or_default();
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "treebox"),
                    ("service", service),
                    ("scope", &joined),
                    ("refresh_token", token),
                ];
                let request = self.http().post(realm.clone());
                request.header("Content-Type", "application/x-www-form-urlencoded").body(encoded(&form))
            }
        };
        let response = self.persist(what, &host, make).await?;
        let code = response.status().as_u16();
        if code != 200 {
            let (what, named) = (what.to_owned(), self.credentials.is_some());
            let message = message(response).await;
            return Err(match code {
                400 | 401 | 403 => RegistryError::Denied { host, what, message, named },
                code => RegistryError::Status { host, what, code, message },
            });
        }
        let bytes = bounded(response, MAX_TOKEN_BYTES).await.map_err(|error| match error {
            BodyError::TooLong => {
                RegistryError::TooLong { host: host.clone(), what: what.into(), limit_bytes: MAX_TOKEN_BYTES }
            }
            BodyError::Broken(reason) => {
                RegistryError::Unreachable { host: host.clone(), what: what.into(), reason }
            }
        })?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let text = token.and_then(|token| token.token.or(token.access_token)).filter(|text| !text.is_empty());
        text.map(Access::Bearer).ok_or_else(|| protocol(&host, "it gives no token"))
    }
}

/// Pairs as a form is sent.
fn encoded(form: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form.invalid/").expect("a constant address");
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[&'static str]) -> Challenge {
        let headers: Vec<_> = headers.iter().map(|text| HeaderValue::from_static(text)).collect();
        Challenge::read(&headers)
    }

    #[test]
    fn a_challenge_is_read_however_it_is_written() {
        let bearer = |service: Option<&str>| Challenge {
            basic: false,
            bearer: Some(Bearer { realm: "https://a.example/t".into(), service: service.map(str::to_owned) }),
        };
        let plain = r#"Bearer realm="https://a.example/t",service="r",scope="repository:x:pull""#;
        assert_eq!(read(&[plain]), bearer(Some("r")));
        assert_eq!(read(&[r#"bearer Service=r, Realm="https://a.example/t""#]), bearer(Some("r")));
        assert_eq!(read(&[r#"Bearer realm="https://a.example/t""#]), bearer(None));
        let both = read(&[r#"Basic realm="x""#, plain]);
        assert!(both.basic && both.bearer.is_some());
        assert_eq!(read(&["Bearer nonsense", "Digest realm=\"x\""]), Challenge::default());
    }

    #[test]
    fn a_form_is_escaped() {
        assert_eq!(encoded(&[("a", "x y&z"), ("b", "=")]), "a=x+y%26z&b=%3D");
    }
}
