//! Folds repeated refusals from one peer, so that garbage cannot fill the disk.
//!
//! The first [`MAX_PER_SECOND`] refusals of a peer in a second are recorded one by one; the rest are only counted, and the
//! count is recorded as one entry when the second is over. Pure: time is passed in.

use std::collections::HashMap;
use std::net::IpAddr;

/// Refusals of one peer recorded one by one in a second.
pub const MAX_PER_SECOND: u64 = 10;

/// Peers watched at once; refusals of further peers in the same second are counted together.
const MAX_PEERS: usize = 1_024;

/// What happened in the current second.
#[derive(Debug, Default)]
pub struct Flood {
    second: i64,
    peers: HashMap<IpAddr, u64>,
    others: u64,
}

/// A number of refusals that were counted instead of recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// The peer; `None` for all that were too many to watch.
    pub peer: Option<IpAddr>,
    /// How many were folded.
    pub count: u64,
}

impl Flood {
    /// Counts one refusal; whether it is to be recorded by itself, and what the second before had folded.
    pub fn admit(&mut self, peer: IpAddr, now_ms: i64) -> (bool, Vec<Folded>) {
        let folded = self.turn(now_ms);
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_PEERS {
            self.others += 1;
            return (false, folded);
        }
        let count = self.peers.entry(peer).or_default();
        *count += 1;
        (*count <= MAX_PER_SECOND, folded)
    }

    /// What was folded, once the second it happened in is over; empty before.
    pub fn turn(&mut self, now_ms: i64) -> Vec<Folded> {
        let second = now_ms.div_euclid(1_000);
        if second == self.second {
            return Vec::new();
        }
        self.second = second;
        let mut folded: Vec<Folded> = self
            .peers
            .drain()
            .filter(|(_, count)| *count > MAX_PER_SECOND)
            .map(|(peer, count)| Folded { peer: Some(peer), count: count - MAX_PER_SECOND })
            .collect();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            folded.push(Folded { peer: None, count: others });
        }
        folded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_recorded_and_folded() {
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let mut flood = Flood::default();
        let recorded = (0..25).filter(|_| flood.admit(a, 1_000).0).count();
        assert_eq!(recorded, 10);
        assert!(flood.admit(b, 1_999).0);
        assert_eq!(flood.turn(1_999), []);
        assert_eq!(flood.turn(2_000), [Folded { peer: Some(a), count: 15 }]);
        assert_eq!(flood.turn(2_500), []);
        assert!(flood.admit(a, 2_600).0);
    }

    #[test]
    fn too_many_peers_are_counted_together() {
        let mut flood = Flood::default();
        let peers = (0..2_000_u32).map(|n| IpAddr::from(n.to_be_bytes()));
        let recorded = peers.filter(|peer| flood.admit(*peer, 0).0).count();
        assert_eq!(recorded, 1_024);
        assert_eq!(flood.turn(1_000), [Folded { peer: None, count: 976 }]);
    }
}
