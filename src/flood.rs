//! Folds repeated refusals from one peer, so that garbage cannot fill the disk.
//!
//! The first [`MAX_PER_SECOND`] refusals of a peer in a second are recorded one by one; the rest are only counted, and the
//! count is recorded as one entry of each event type and tenant when the second is over. Pure: time is passed in.

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

/// Refusals that were folded, by the event type of the entry they are folded into, and their tenant.
type Counts = BTreeMap<(&'static str, String), u64>;

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
    /// The tenant they were of.
    pub zone: String,
    /// How many were folded.
    pub count: u64,
}

impl Flood {
    /// Counts one refusal; whether it is to be recorded by itself, and what the second before had folded. `event_type` is that
    /// of the entry it is folded into, if it is, and `zone` its tenant.
    pub fn admit(
        &mut self,
        peer: IpAddr,
        event_type: &'static str,
        zone: &str,
        now_ms: i64,
    ) -> (bool, Vec<Folded>) {
        let folded = self.turn(now_ms);
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_PEERS {
            *self.others.entry((event_type, zone.to_owned())).or_default() += 1;
            return (false, folded);
        }
        let watched = self.peers.entry(peer).or_default();
        if watched.recorded < MAX_PER_SECOND {
            watched.recorded += 1;
            return (true, folded);
        }
        *watched.folded.entry((event_type, zone.to_owned())).or_default() += 1;
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
            counts.into_iter().map(move |((event_type, zone), count)| Folded {
                peer,
                event_type,
                zone,
                count,
            })
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
        let zone = |at: i32| if at % 2 == 0 { "eu" } else { "us" };
        let recorded = (0..25).filter(|at| flood.admit(a, event_type(*at), zone(*at), 1_000).0).count();
        assert_eq!(recorded, 10);
        assert!(flood.admit(b, "request.folded", "eu", 1_999).0);
        assert_eq!(flood.turn(1_999), []);
        let folded =
            |event_type, zone: &str, count| Folded { peer: Some(a), event_type, zone: zone.into(), count };
        let (auth, request) = ("auth.failed", "request.folded");
        let expected = [
            folded(auth, "eu", 2),
            folded(auth, "us", 1),
            folded(request, "eu", 6),
            folded(request, "us", 6),
        ];
        assert_eq!(flood.turn(2_000), expected);
        assert_eq!(flood.turn(2_500), []);
        assert!(flood.admit(a, "request.folded", "eu", 2_600).0);
    }

    #[test]
    fn too_many_peers_are_counted_together() {
        let mut flood = Flood::default();
        let peers = (0..2_000_u32).map(|n| IpAddr::from(n.to_be_bytes()));
        let recorded = peers.filter(|peer| flood.admit(*peer, "auth.failed", "eu", 0).0).count();
        assert_eq!(recorded, 1_024);
        assert_eq!(
            flood.turn(1_000),
            [Folded { peer: None, event_type: "auth.failed", zone: "eu".into(), count: 976 }]
        );
    }
}
