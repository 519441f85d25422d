//! Folds repeated refusals from one peer, so that garbage cannot fill the disk.
//!
//! The first [`MAX_PER_SECOND`] refusals of a peer in a second are recorded one by one; the rest are only counted, and the
//! count is recorded as one entry of each event type when the second is over. Pure: time is passed in.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Refusals of one peer recorded one by one in a second.
pub const MAX_PER_SECOND: u64 = 10;

/// Peers watched at once; refusals of further peers in the same second are counted together.
const MAX_PEERS: usize = 1_024;

/// What happened in the current second.
#[derive(Debug, Default)]
pub struct Flood {
    second: i64,
    peers: HashMap<IpAddr, Watched>,
    others: Counts,
}

/// Refusals that were folded, by the event type of the entry they are folded into.
type Counts = BTreeMap<&'static str, u64>;

/// One peer in the current second.
#[derive(Debug, Default)]
struct Watched {
    recorded: u64,
    folded: Counts,
}

/// A number of refusals that were counted instead of recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The peer; `None` for all that were too many to watch.
    pub peer: Option<IpAddr>,
    /// The event type of the entry that says so.
    pub event_type: &'static str,
    /// How many were folded.
    pub count: u64,
}

impl Flood {
    /// Counts one refusal; whether it is to be recorded by itself, and what the second before had folded. `event_type` is that
    /// of the entry it is folded into, if it is.
    pub fn admit(&mut self, peer: IpAddr, event_type: &'static str, now_ms: i64) -> (bool, Vec<Folded>) {
        let folded = self.turn(now_ms);
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_PEERS {
            *self.others.entry(event_type).or_default() += 1;
            return (false, folded);
        }
        let watched = self.peers.entry(peer).or_default();
        if watched.recorded < MAX_PER_SECOND {
            watched.recorded += 1;
            return (true, folded);
        }
        *watched.folded.entry(event_type).or_default() += 1;
        (false, folded)
    }

    /// What was folded, once the second it happened in is over; empty before.
    pub fn turn(&mut self, now_ms: i64) -> Vec<Folded> {
        let second = now_ms.div_euclid(1_000);
        if second == self.second {
            return Vec::new();
        }
        self.second = second;
        let of_peers = self.peers.drain().map(|(peer, watched)| (Some(peer), watched.folded));
        let all = of_peers.chain([(None, std::mem::take(&mut self.others))]);
        all.flat_map(|(peer, counts)| {
            counts.into_iter().map(move |(event_type, count)| Folded { peer, event_type, count })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_recorded_and_folded() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let mut flood = Flood::default();
        let event_type = |at: i32| if at % 5 == 0 { "auth.failed" } else { "request.folded" };
        let recorded = (0..25).filter(|at| flood.admit(a, event_type(*at), 1_000).0).count();
        assert_eq!(recorded, 10);
        assert!(flood.admit(b, "request.folded", 1_999).0);
        assert_eq!(flood.turn(1_999), []);
        let folded = |event_type, count| Folded { peer: Some(a), event_type, count };
        assert_eq!(flood.turn(2_000), [folded("auth.failed", 3), folded("request.folded", 12)]);
        assert_eq!(flood.turn(2_500), []);
        assert!(flood.admit(a, "request.folded", 2_600).0);
    }

    #[test]
    fn too_many_peers_are_counted_together() {
        let mut flood = Flood::default();
        let peers = (0..2_000_u32).map(|n| IpAddr::from(n.to_be_bytes()));
        let recorded = peers.filter(|peer| flood.admit(*peer, "auth.failed", 0).0).count();
        assert_eq!(recorded, 1_024);
        assert_eq!(flood.turn(1_000), [Folded { peer: None, event_type: "auth.failed", count: 976 }]);
    }
}
