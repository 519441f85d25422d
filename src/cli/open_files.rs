//! How many files docket may have open: connections are files too, and so is the ledger. Without one to spare no call could be
//! forwarded, however few connections the data plane has.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the ledger, its readers, the policies and docket itself have open, with some to spare.
const OWN: u64 = 128;

/// A connection of the data plane has one to a server beside it, and the admin plane has as many connections as the data plane.
const EACH: u64 = 3;

/// Raises the limit of this process as far as the machine lets it; answers what it is then, where there is one.
pub(super) fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(error = %error, "the limit of open files stays as it is");
            current
        }
    }
}

/// The connections each plane may have under a limit, and what is to be said where those are fewer than were asked for: one plane
/// must not take what the other needs.
pub(super) fn connections(asked: usize, limit: Option<u64>) -> (usize, Option<String>) {
    let Some(limit) = limit else { return (asked, None) };
    let fits = usize::try_from(limit.saturating_sub(OWN) / EACH).unwrap_or(usize::MAX).max(1);
    if asked <= fits {
        return (asked, None);
    }
    let needed = OWN + EACH.saturating_mul(asked as u64);
    let said = format!(
        "this process may have {limit} files open, which is enough for {fits} connections to each plane; `data.max_connections` = \
         {asked} needs {needed}: raise the limit (`ulimit -Hn`, `LimitNOFILE=` of systemd), or ask for fewer"
    );
    (fits, Some(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_planes_fit_under_the_limit() {
        assert_eq!(connections(1_024, None), (1_024, None));
        assert_eq!(connections(1_024, Some(4_096)), (1_024, None));
        let (fits, said) = connections(1_024, Some(1_024));
        assert_eq!(fits, 298);
        let said = said.unwrap();
        assert!(said.contains("may have 1024 files open") && said.contains("needs 3200"), "{said}");
        assert_eq!(connections(1_024, Some(8)).0, 1);
    }
}
