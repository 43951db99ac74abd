//! What the fuzz targets do with any bytes that stand where a message between host, master and session should; see `object::fuzzing`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::{Hello, Order, Request, Response};

/// A frame, read as every kind of message.
pub fn frame(bytes: &[u8]) {
    check::<Hello>(bytes);
    check::<Order>(bytes);
    check::<Request>(bytes);
    check::<Response>(bytes);
}

fn check<M: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok((message, rest)) = postcard::take_from_bytes::<M>(bytes) else { return };
    assert!(rest.len() <= bytes.len());
    let written = postcard::to_stdvec(&message).expect("a message is written");
    let again: M = postcard::from_bytes(&written).expect("what was written is read");
    assert!(postcard::to_stdvec(&again).is_ok_and(|again| again == written), "a message is the same again");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::fuzzing::shaking::shake;
    use crate::sandbox::{Plan, Rootfs};

    #[test]
    fn messages_take_any_bytes() {
        let plan = Plan::new(
            Rootfs::Directory { path: "/r".into(), read_only: true },
            vec![b"ls".to_vec(), b"-l".to_vec()],
        );
        let bytes = |message: &Request| postcard::to_stdvec(message).unwrap();
        let seeds = vec![
            postcard::to_stdvec(&Hello { protocol: super::super::protocol::PROTOCOL, unshare_errno: 0 })
                .unwrap(),
            bytes(&Request::Run { run: 1, plan: Box::new(plan) }),
            bytes(&Request::Rename { from: b"/a".to_vec(), to: b"/b".to_vec() }),
            bytes(&Request::Signal { run: 7, signal: 15 }),
        ];
        shake("frame", frame, seeds, 12_000);
    }
}
