//! Which core does what: Envoy has one to itself, and whatever drives it is on another.

use std::fs::read_to_string;

use crate::Failure;

/// The cores that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// For the Envoys that are measured.
    pub envoy: usize,
    /// For the load generator and the upstream.
    pub load: usize,
}

impl Cores {
    /// Two cores that this process may use; if there is a choice, none that is the other one's second thread.
    ///
    /// # Errors
    /// If there is only one.
    pub fn of_this_process() -> Result<Self, Failure> {
        let status = read_to_string("/proc/self/status")?;
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(list);
        let siblings = |core| {
            let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
            read_to_string(path).map(|text| list(&text)).unwrap_or_default()
        };
        choose(&allowed.unwrap_or_default(), siblings).ok_or_else(|| "this takes two cores".into())
    }
}

fn choose(allowed: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Option<Cores> {
    let envoy = *allowed.first()?;
    let siblings = siblings(envoy);
    let others = || allowed.iter().copied().skip(1);
    let load = others().find(|core| !siblings.contains(core)).or_else(|| others().next())?;
    Some(Cores { envoy, load })
}

/// Reads what Linux writes for a set of cores, such as `0-2,4`.
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{Cores, choose, list};

    #[test]
    fn a_list_of_cores_has_ranges() {
        assert_eq!(list("\t0-2,4\n"), [0, 1, 2, 4]);
        assert_eq!(list("3"), [3]);
        assert!(list("").is_empty());
    }

    #[test]
    fn the_two_are_threads_of_different_cores_if_possible() {
        assert_eq!(choose(&[0, 1, 2, 3], |_| vec![0, 1]), Some(Cores { envoy: 0, load: 2 }));
        assert_eq!(choose(&[4, 5], |_| vec![4, 5]), Some(Cores { envoy: 4, load: 5 }));
        assert_eq!(choose(&[4, 5], |_| vec![]), Some(Cores { envoy: 4, load: 5 }));
        assert_eq!(choose(&[0], |_| vec![]), None);
    }
}
