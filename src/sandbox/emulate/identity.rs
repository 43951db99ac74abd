//! Answers about who a process is, and to its wish to be somebody else.

use rustix::io::Errno;

use super::calls::Call;
use super::creds::{Change, Creds, Ids};
use super::notify::Answer;
use super::target::Stop;
use super::{Ask, Emulator};

impl Emulator {
    /// getuid(2) and its three siblings.
    pub(super) fn one_id(&self, ask: &Ask<'_>, call: Call) -> Result<Answer, Stop> {
        let Creds { uids, gids, .. } = self.creds(ask);
        let id = match call {
            Call::GetUid => uids.real,
            Call::GetEuid => uids.effective,
            Call::GetGid => gids.real,
            _ => gids.effective,
        };
        Ok(Answer::Value(i64::from(id)))
    }

    /// getresuid(2) and getresgid(2).
    pub(super) fn three_ids(&self, ask: &Ask<'_>, call: Call) -> Result<Answer, Stop> {
        let creds = self.creds(ask);
        let Ids { real, effective, saved, .. } =
            if call == Call::GetResuid { creds.uids } else { creds.gids };
        for (at, id) in [real, effective, saved].into_iter().enumerate() {
            ask.target.write(ask.arg(at), &id.to_ne_bytes())?;
        }
        Ok(Answer::Value(0))
    }

    /// getgroups(2).
    pub(super) fn groups(&self, ask: &Ask<'_>) -> Result<Answer, Stop> {
        let groups = &self.creds(ask).groups;
        let room = ask.word(0) as i32;
        if room < 0 || (room > 0 && (room as usize) < groups.len()) {
            return Err(Errno::INVAL.into());
        }
        if room > 0 {
            let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
            ask.target.write(ask.arg(1), &bytes)?;
        }
        Ok(Answer::Value(groups.len() as i64))
    }

    /// setuid(2) and its kin, setgroups(2).
    pub(super) fn become_other(&mut self, ask: &Ask<'_>, call: Call) -> Result<Answer, Stop> {
        let word = |at| ask.word(at);
        let change = match call {
            // A wish that the kernel is to know of as well.
            Call::KeepCapabilities => {
                self.known.change(ask.target.tid, Change::KeepCapabilities(word(1) == 1))?;
                return Err(Stop::Continue);
            }
            Call::SetUid => Change::Uid(word(0)),
            Call::SetGid => Change::Gid(word(0)),
            Call::SetReuid => Change::Reuid(word(0), word(1)),
            Call::SetRegid => Change::Regid(word(0), word(1)),
            Call::SetResuid => Change::Resuid([word(0), word(1), word(2)]),
            Call::SetResgid => Change::Resgid([word(0), word(1), word(2)]),
            Call::SetFsuid => Change::Fsuid(word(0)),
            Call::SetFsgid => Change::Fsgid(word(0)),
            _ => Change::Groups(read_groups(ask)?),
        };
        ask.still()?;
        Ok(Answer::Value(self.known.change(ask.target.tid, change)?))
    }
}

fn read_groups(ask: &Ask<'_>) -> Result<Vec<u32>, Stop> {
    let count = ask.word(0) as usize;
    if count > super::creds::MAX_GROUPS {
        return Err(Errno::INVAL.into());
    }
    let mut bytes = vec![0; count * 4];
    ask.target.read(ask.arg(1), &mut bytes)?;
    let mut groups: Vec<u32> =
        bytes.chunks_exact(4).map(|id| u32::from_ne_bytes([id[0], id[1], id[2], id[3]])).collect();
    // As the kernel keeps them.
    groups.sort_unstable();
    Ok(groups)
}
