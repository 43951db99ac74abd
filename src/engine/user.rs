//! Who a command runs as, looked up in the state's own files.

use std::sync::PoisonError;

use super::core::Core;
use super::error::{Error, Result};
use crate::object::{Entry, LookupError, Node, TreeId, TreePath, resolve};

/// The largest user database that is read; larger ones are refused rather than searched.
const MAX_DATABASE_BYTES: u64 = 4 * 1024 * 1024;
/// How many looked-up users are kept in memory.
const MAX_KNOWN_USERS: usize = 1024;
/// The most supplementary groups, as the kernel allows.
const MAX_GROUPS: usize = 65_536;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

impl Core {
    /// Resolves `user`, `uid`, `user:group` or `uid:gid` by the `/etc/passwd` and `/etc/group` inside.
    ///
    /// What a text means in a tree never changes, so it is looked up once.
    pub(super) fn user(&self, tree: TreeId, text: &str) -> Result<User> {
        let key = (tree, text.to_owned());
        if let Some(user) = self.users.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(user.clone());
        }
        let user = self.look_up_user(&self.store.root(&tree)?, text)?;
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= MAX_KNOWN_USERS {
            users.clear();
        }
        users.insert(key, user.clone());
        Ok(user)
    }

    fn look_up_user(&self, root: &Entry, text: &str) -> Result<User> {
        let (name, group) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (text, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let passwd = self.database(root, "/etc/passwd")?;
        let number = name.parse::<u32>().ok();
        let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
            let uid = fields.get(2).and_then(|uid| uid.parse::<u32>().ok());
            fields.len() >= 4 && if number.is_some() { uid == number } else { fields[0] == name }
        });
        let uid = match (number, &line) {
            (Some(uid), _) => uid,
            (None, Some(fields)) => fields[2].parse().map_err(|_| no_user(name))?,
            (None, None) => return Err(no_user(name)),
        };
        let mut user = User { uid, ..User::default() };
        if let Some(fields) = &line {
            user.gid = fields[3].parse().unwrap_or(0);
            user.home = fields.get(5).copied().unwrap_or_default().to_owned();
        }
        if user.home.is_empty() {
            user.home = if uid == 0 { "/root".to_owned() } else { "/".to_owned() };
        }
        let groups =
            if group.is_some() || uid != 0 { self.database(root, "/etc/group")? } else { String::new() };
        match group {
            Some(group) => user.gid = group_id(&groups, group)?,
            None => {
                let login = line.as_ref().map_or("", |fields| fields[0]);
                user.groups = supplementary(&groups, login);
            }
        }
        Ok(user)
    }

    fn database(&self, root: &Entry, path: &str) -> Result<String> {
        let path = TreePath::parse(path.as_bytes()).expect("a constant path is valid");
        let entry = match resolve(&self.store, root, &path, true) {
            Ok((_, entry)) => entry,
            Err(LookupError::Source(error)) => return Err(error.into()),
            Err(_) => return Ok(String::new()),
        };
        // A FIFO, a device or a directory of that name is no database (CVE-2024-9676).
        let Node::File { blob, size, .. } = entry.node else { return Ok(String::new()) };
        if size > MAX_DATABASE_BYTES {
            return Err(Error::invalid(format!(
                "{path} has {size} bytes, more than the {MAX_DATABASE_BYTES} that are searched"
            )));
        }
        Ok(String::from_utf8_lossy(&self.store.read_blob(&blob)?).into_owned())
    }
}

fn no_user(name: &str) -> Error {
    Error::invalid(format!("the state's /etc/passwd has no user {name}: give a number, or a name it has"))
}

fn group_id(groups: &str, group: &str) -> Result<u32> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    groups
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() >= 3 && fields[0] == group)
        .and_then(|fields| fields[2].parse().ok())
        .ok_or_else(|| {
            Error::invalid(format!(
                "the state's /etc/group has no group {group}: give a number, or a name it has"
            ))
        })
}

fn supplementary(groups: &str, login: &str) -> Vec<u32> {
    let mut found: Vec<u32> = groups
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let member =
                !login.is_empty() && fields.len() >= 4 && fields[3].split(',').any(|name| name == login);
            if member { fields[2].parse().ok() } else { None }
        })
        .take(MAX_GROUPS)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
