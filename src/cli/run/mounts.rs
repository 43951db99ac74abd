//! What `--mount`, `--volume`, `--tmpfs` and `--secret` say.

use std::os::unix::ffi::OsStringExt as _;

use treebox::{Mount, SecretSource, Sharing};

use crate::cli::values::size;

/// A mount, or none: a secret that is not required and not there.
pub(super) type Typed = Option<Box<Mount>>;

/// `type=bind,src=SRC,dst=DST` and so on. A value with a comma stands in quotes with its key, as in a CSV file.
pub(super) fn mount(text: &str) -> Result<Typed, String> {
    let mut fields = Fields::parse(text)?;
    let kind = fields.take(&["type"])?.ok_or("give type=bind, type=tmpfs, type=cache or type=secret")?;
    let typed = match kind.as_str() {
        "bind" => bind(&mut fields).map(some),
        "tmpfs" => tmpfs(&mut fields).map(some),
        "cache" => cache(&mut fields).map(some),
        "secret" => secret(&mut fields),
        other => Err(format!("there is no type `{other}`: use bind, tmpfs, cache or secret")),
    }?;
    fields.end(&kind)?;
    Ok(typed)
}

/// `SRC:DST[:ro|rw]`.
pub(super) fn volume(text: &str) -> Result<Typed, String> {
    let wrong = "expected SRC:DST or SRC:DST:rw with an absolute DST, such as ./src:/src";
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(wrong.to_owned()),
    };
    if source.is_empty() || !target.starts_with('/') {
        return Err(wrong.to_owned());
    }
    let mut writable = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        writable = match option {
            "ro" => false,
            "rw" => true,
            "z" | "Z" => {
                return Err("SELinux labels of host files are never changed: leave :z and :Z out".to_owned());
            }
            other => return Err(format!("`{other}` is no option of a volume: use ro or rw")),
        };
    }
    Ok(some(if writable { Mount::bind_writable(source, target) } else { Mount::bind(source, target) }))
}

/// `DST[:size=64m,mode=1777]`.
pub(super) fn tmpfs_at(text: &str) -> Result<Typed, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut fields = Fields::parse(options)?;
    fields.0.push(("dst".to_owned(), Some(target.to_owned())));
    let mount = tmpfs(&mut fields)?;
    fields.end("tmpfs")?;
    Ok(some(mount))
}

/// `id=ID,src=FILE` and so on.
pub(super) fn secret_of(text: &str) -> Result<Typed, String> {
    let mut fields = Fields::parse(text)?;
    let typed = secret(&mut fields)?;
    fields.end("secret")?;
    Ok(typed)
}

fn some(mount: Mount) -> Typed {
    Some(Box::new(mount))
}

fn bind(fields: &mut Fields) -> Result<Mount, String> {
    let source = fields.take(&["src", "source"])?.ok_or("a bind mount needs src=")?;
    let target = fields.target()?.ok_or("a bind mount needs dst=")?;
    if let Some(propagation) = fields.take(&["bind-propagation"])?
        && !matches!(propagation.as_str(), "private" | "rprivate")
    {
        return Err("mounts never travel between host and sandbox: only bind-propagation=rprivate".to_owned());
    }
    if fields.take(&["relabel", "z", "Z"])?.is_some() {
        return Err("SELinux labels of host files are never changed: leave relabel out".to_owned());
    }
    let writable = !fields.read_only()?.unwrap_or(true);
    Ok(if writable { Mount::bind_writable(source, target) } else { Mount::bind(source, target) })
}

fn tmpfs(fields: &mut Fields) -> Result<Mount, String> {
    let mut mount = Mount::tmpfs(fields.target()?.ok_or("a tmpfs needs dst=")?);
    if let Some(bytes) = fields.take(&["size", "tmpfs-size"])? {
        mount = mount.size(size(&bytes)?);
    }
    if let Some(mode) = fields.mode(&["mode", "tmpfs-mode"])? {
        mount = mount.mode(mode);
    }
    Ok(mount)
}

fn cache(fields: &mut Fields) -> Result<Mount, String> {
    let target = fields.target()?.ok_or("a cache needs dst=")?;
    // As in Dockerfiles: a cache without a name is that of its place.
    let id = fields.take(&["id"])?.unwrap_or_else(|| target.clone());
    let mut mount = Mount::cache(id, target).read_only(fields.read_only()?.unwrap_or(false));
    if let Some(sharing) = fields.take(&["sharing"])? {
        mount = mount.sharing(match sharing.as_str() {
            "shared" => Sharing::Shared,
            "locked" => Sharing::Locked,
            "private" => Sharing::Private,
            other => return Err(format!("`{other}` is no way of sharing: use shared, locked or private")),
        });
    }
    if let Some(mode) = fields.mode(&["mode"])? {
        mount = mount.mode(mode);
    }
    let (uid, gid) = fields.owner()?;
    Ok(mount.owner(uid, gid))
}

fn secret(fields: &mut Fields) -> Result<Typed, String> {
    let id = fields.take(&["id"])?.ok_or("a secret needs id=")?;
    let required = fields.flag(&["required"])?.unwrap_or(true);
    let file = fields.take(&["src", "source", "from-path"])?;
    let variable = fields.take(&["env"])?;
    let source = match (file, variable) {
        (Some(file), None) => Some(SecretSource::file(file)),
        (None, Some(name)) => match std::env::var_os(&name) {
            Some(value) => Some(SecretSource::bytes(value.into_vec())),
            None if required => return Err(format!("the variable {name} is not set")),
            None => None,
        },
        _ => return Err("a secret needs src=FILE or env=VARIABLE, and not both".to_owned()),
    };
    let (target, mode) = (fields.target()?, fields.mode(&["mode"])?);
    let (owner, version) = (fields.owner()?, fields.take(&["version"])?);
    let Some(source) = source else { return Ok(None) };
    let mut mount = Mount::secret(id, source).required(required).owner(owner.0, owner.1);
    if let Some(target) = target {
        mount = mount.at(target);
    }
    if let Some(mode) = mode {
        mount = mount.mode(mode);
    }
    if let Some(version) = version {
        mount = mount.version(version);
    }
    Ok(some(mount))
}

/// `key=value` or `key`, in the order they were typed.
struct Fields(Vec<(String, Option<String>)>);

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for field in split(text)? {
            fields.push(match field.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (field, None),
            });
        }
        Ok(Self(fields))
    }

    fn find(&mut self, keys: &[&str]) -> Result<Option<(String, Option<String>)>, String> {
        let is_one = |field: &(String, Option<String>)| keys.contains(&field.0.as_str());
        let Some(at) = self.0.iter().position(is_one) else { return Ok(None) };
        let found = self.0.remove(at);
        if self.0.iter().any(is_one) {
            return Err(format!("`{}` is given twice", keys[0]));
        }
        Ok(Some(found))
    }

    /// The value of a key that has one of these names.
    fn take(&mut self, keys: &[&str]) -> Result<Option<String>, String> {
        match self.find(keys)? {
            None => Ok(None),
            Some((_, Some(value))) if !value.is_empty() => Ok(Some(value)),
            Some((key, _)) => Err(format!("`{key}` needs a value")),
        }
    }

    /// A key that may stand alone.
    fn flag(&mut self, keys: &[&str]) -> Result<Option<bool>, String> {
        Ok(match self.find(keys)? {
            None => None,
            Some((key, value)) => Some(match value.as_deref() {
                None | Some("true" | "1") => true,
                Some("false" | "0") => false,
                Some(other) => return Err(format!("`{key}={other}` is neither true nor false")),
            }),
        })
    }

    fn read_only(&mut self) -> Result<Option<bool>, String> {
        let read_only = self.flag(&["ro", "readonly", "read-only"])?;
        let writable = self.flag(&["rw", "readwrite"])?;
        match (read_only, writable) {
            (Some(_), Some(_)) => Err("`ro` and `rw` contradict each other".to_owned()),
            (read_only, writable) => Ok(read_only.or(writable.map(|writable| !writable))),
        }
    }

    fn target(&mut self) -> Result<Option<String>, String> {
        match self.take(&["dst", "destination", "target"])? {
            Some(target) if !target.starts_with('/') => {
                Err(format!("dst=`{target}` must be an absolute path inside"))
            }
            other => Ok(other),
        }
    }

    fn mode(&mut self, keys: &[&str]) -> Result<Option<u16>, String> {
        let Some(text) = self.take(keys)? else { return Ok(None) };
        let mode = u16::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.map(Some).ok_or_else(|| format!("`{text}` is no mode such as 0755"))
    }

    fn owner(&mut self) -> Result<(Option<u32>, Option<u32>), String> {
        let mut id = |key: &str| match self.take(&[key])? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| format!("`{key}={text}` is no number of an id")),
        };
        Ok((id("uid")?, id("gid")?))
    }

    fn end(self, kind: &str) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(format!("`{key}` means nothing for type={kind}")),
        }
    }
}

/// Fields between commas. One that begins with a quote goes on to the next quote; two quotes in it are one.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (before, behind) = quoted.split_once('"').ok_or("a quote is not closed")?;
                field.push_str(before);
                match behind.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => {
                        rest = behind;
                        break;
                    }
                }
            }
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err("something follows a closing quote".to_owned());
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        if field.is_empty() {
            return Err("there is nothing between two commas".to_owned());
        }
        fields.push(field);
        if let Some(more) = rest.strip_prefix(',') {
            if more.is_empty() {
                return Err("there is nothing behind the last comma".to_owned());
            }
            rest = more;
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Mount {
        *mount(text).unwrap().unwrap()
    }

    #[test]
    fn the_words_of_docker_and_podman_are_understood() {
        let read_only = Mount::bind("/a", "/b");
        for text in [
            "type=bind,src=/a,dst=/b",
            "type=bind,source=/a,destination=/b,ro",
            "src=/a,target=/b,type=bind,readonly=true",
            "type=bind,src=/a,dst=/b,rw=false,bind-propagation=rprivate",
        ] {
            assert_eq!(of(text), read_only, "{text}");
        }
        let writable = Mount::bind_writable("/a", "/b");
        for text in ["type=bind,src=/a,dst=/b,rw", "type=bind,src=/a,dst=/b,readonly=false"] {
            assert_eq!(of(text), writable, "{text}");
        }
        assert_eq!(of("type=bind,\"src=/a,\"\"b\"\"\",dst=/b"), Mount::bind("/a,\"b\"", "/b"));
        assert_eq!(of("type=tmpfs,dst=/t,size=64k,mode=700"), Mount::tmpfs("/t").size(65_536).mode(0o700));
        assert_eq!(of("type=tmpfs,dst=/t,tmpfs-size=1m"), Mount::tmpfs("/t").size(1 << 20));
        assert_eq!(of("type=cache,dst=/c"), Mount::cache("/c", "/c"));
        assert_eq!(
            of("type=cache,id=x,dst=/c,sharing=locked,uid=1,mode=1777"),
            Mount::cache("x", "/c").sharing(Sharing::Locked).owner(Some(1), None).mode(0o1777)
        );
        assert_eq!(
            of("type=secret,id=t,src=/f,dst=/t,version=2"),
            Mount::secret("t", SecretSource::file("/f")).at("/t").version("2")
        );
        assert_eq!(volume("a:/b").unwrap(), some(Mount::bind("a", "/b")));
        assert_eq!(volume("a:/b:rw").unwrap(), some(Mount::bind_writable("a", "/b")));
        assert_eq!(tmpfs_at("/t:size=1k").unwrap(), some(Mount::tmpfs("/t").size(1024)));
        assert_eq!(secret_of("id=t,src=f").unwrap(), some(Mount::secret("t", SecretSource::file("f"))));
        assert_eq!(secret_of("id=t,env=TREEBOX_NO_SUCH_VARIABLE,required=false").unwrap(), None);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (text, told) in [
            ("", "give type="),
            ("src=/a,dst=/b", "give type="),
            ("type=volume,src=a,dst=/b", "no type `volume`"),
            ("type=bind,dst=/b", "needs src="),
            ("type=bind,src=/a", "needs dst="),
            ("type=bind,src=/a,dst=b", "absolute"),
            ("type=bind,src=/a,dst=/b,ro,rw", "contradict"),
            ("type=bind,src=/a,src=/c,dst=/b", "twice"),
            ("type=bind,src=,dst=/b", "needs a value"),
            ("type=bind,src=/a,dst=/b,size=4", "`size` means nothing"),
            ("type=bind,src=/a,dst=/b,relabel=shared", "SELinux"),
            ("type=bind,src=/a,dst=/b,bind-propagation=shared", "never travel"),
            ("type=bind,,src=/a", "between two commas"),
            ("type=tmpfs,dst=/t,", "last comma"),
            ("type=tmpfs,dst=/t,size=much", "is not a size"),
            ("type=tmpfs,dst=/t,mode=99", "no mode"),
            ("type=tmpfs,\"dst=/t", "not closed"),
            ("type=cache,dst=/c,sharing=some", "no way of sharing"),
            ("type=cache,dst=/c,uid=me", "no number"),
            ("type=secret,src=/f", "needs id="),
            ("type=secret,id=x", "src=FILE or env="),
            ("type=secret,id=x,src=a,env=B", "not both"),
            ("type=secret,id=x,env=TREEBOX_NO_SUCH_VARIABLE", "not set"),
        ] {
            let error = mount(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert!(volume("a:/b:z").unwrap_err().contains("SELinux"));
        assert!(volume("a").is_err() && volume("a:b").is_err() && volume(":/b").is_err());
    }
}
