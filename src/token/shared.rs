//! Shared data that is changed by comparing and swapping.

use prost::Message;

use super::host::Host;

/// So often is a change tried that somebody else keeps getting in before. With a handful of threads, a few
/// times are many.
const ATTEMPTS: usize = 1000;

/// Reads what lies at `key`. What cannot be read counts as nothing known.
pub fn read<T: Message + Default>(host: &dyn Host, key: &str) -> T {
    decode(host.read(key).map(|(bytes, _)| bytes))
}

/// Changes what lies at `key`. `change` says whether it changed anything, and may be called again with
/// what somebody else made of it. Gives what lies there then, and whether it was changed.
pub fn update<T: Message + Default>(host: &dyn Host, key: &str, mut change: impl FnMut(&mut T) -> bool) -> (T, bool) {
    for _ in 0..ATTEMPTS {
        let (bytes, version) = host.read(key).unzip();
        let mut value: T = decode(bytes);
        if !change(&mut value) {
            return (value, false);
        }
        if host.write(key, &value.encode_to_vec(), version) {
            return (value, true);
        }
    }
    log::error!("mcp-upstream-auth: shared data is not to be changed");
    (T::default(), false)
}

/// Puts an empty `T` at `key`, if there is nothing. Envoy compares versions only where something is; so
/// this comes first, when a configuration is tried and no other VM has it.
pub fn create<T: Message + Default>(host: &dyn Host, key: &str) {
    if host.read(key).is_none() {
        host.write(key, &T::default().encode_to_vec(), None);
    }
}

fn decode<T: Message + Default>(bytes: Option<Vec<u8>>) -> T {
    bytes.and_then(|bytes| T::decode(bytes.as_slice()).ok()).unwrap_or_default()
}
