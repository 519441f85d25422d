//! The connections of a plane, and which of them makes room when there are as many as there may be.
//!
//! A connection that waits for a request holds a place and does nothing with it: strangers can open as many of those as they
//! like. So where a place is wanted, one of the peer that has the most of them is closed, the one that has waited longest.
//! Connections that hold a request of somebody admitted stay; how many of those one principal has is bounded elsewhere. An answer
//! that everybody may have, a refusal among them, protects its connection no longer than it takes to make.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// It waits for a request.
const WAITING: u8 = 0;
/// It has one under way.
const ANSWERING: u8 = 1;
/// It is being closed.
const CLOSING: u8 = 2;

/// The connections of a plane.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    /// A connection that has not waited for as long as this stays: its request may be on its way.
    grace: Duration,
    began: Instant,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    state: AtomicU8,
    /// Since when it waits, in microseconds since the crowd began.
    since: AtomicU64,
    close: Notify,
}

/// One connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    number: u64,
    connection: Arc<Connection>,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Answering {
    seat: Arc<Seat>,
    is_admitted: bool,
}

impl Crowd {
    /// At most `most` connections, of which each may wait for `grace` without making room.
    pub(super) fn new(most: usize, grace: Duration) -> Arc<Self> {
        Arc::new(Self { most, grace, began: Instant::now(), seats: Mutex::default() })
    }

    /// A place for a new connection, if there is one.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.taken.len() >= self.most {
            return None;
        }
        let number = seats.next;
        seats.next += 1;
        let (state, since) = (AtomicU8::new(WAITING), AtomicU64::new(self.now_us()));
        let connection = Arc::new(Connection { peer, state, since, close: Notify::new() });
        seats.taken.insert(number, connection.clone());
        Some(Seat { crowd: self.clone(), number, connection })
    }

    /// Closes a connection that waits for a request: of the peer that has the most of them, the one that has waited longest.
    /// `false` where there is none, or one is being closed already.
    pub(super) fn make_room(&self) -> bool {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, grace) = (self.now_us(), micros(self.grace));
        let mut waiting: HashMap<IpAddr, (usize, u64, &Connection)> = HashMap::new();
        for connection in seats.taken.values() {
            let since = connection.since.load(Ordering::Relaxed);
            match connection.state.load(Ordering::Acquire) {
                CLOSING => return false,
                WAITING if now.saturating_sub(since) >= grace => {
                    let (count, longest, one) =
                        waiting.entry(connection.peer).or_insert((0, since, connection));
                    *count += 1;
                    if since < *longest {
                        (*longest, *one) = (since, connection);
                    }
                }
                _ => {}
            }
        }
        let most = waiting.into_values().max_by_key(|(count, since, _)| (*count, u64::MAX - since));
        most.is_some_and(|(_, _, connection)| {
            let is_closed = connection.turn(WAITING, CLOSING);
            if is_closed {
                connection.close.notify_one();
            }
            is_closed
        })
    }

    fn now_us(&self) -> u64 {
        micros(self.began.elapsed())
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Connection {
    fn turn(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Seat {
    /// A request has come: it is not closed until that is dropped. `None` where it is being closed already.
    pub(super) fn answering(self: &Arc<Self>) -> Option<Answering> {
        self.connection.turn(WAITING, ANSWERING).then(|| Answering { seat: self.clone(), is_admitted: false })
    }

    /// Waits until it is to be closed.
    pub(super) async fn closing(&self) {
        self.connection.close.notified().await;
    }
}

impl Answering {
    /// It is of somebody whose requests are counted, and not of just anybody.
    pub(super) fn admitted(mut self) -> Self {
        self.is_admitted = true;
        self
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let Seat { crowd, connection, .. } = &*self.seat;
        // Otherwise a stranger would stay for as long as it asks for what everybody may have.
        if self.is_admitted {
            connection.since.store(crowd.now_us(), Ordering::Relaxed);
        }
        connection.turn(ANSWERING, WAITING);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.seats.lock().unwrap_or_else(PoisonError::into_inner).taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_most_makes_room_and_who_is_answered_stays() {
        let (flood, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let crowd = Crowd::new(4, Duration::ZERO);
        let enter = |peer| crowd.enter(peer).map(Arc::new);
        let is_closing = |seat: &Arc<Seat>| seat.connection.state.load(Ordering::Relaxed) == CLOSING;
        let first = enter(other).unwrap();
        let flooding: Vec<_> = (0..3).map(|_| enter(flood).unwrap()).collect();
        assert!(enter(other).is_none());
        let answering = flooding[0].answering().unwrap();
        assert!(crowd.make_room() && is_closing(&flooding[1]) && flooding[1].answering().is_none());
        assert!(!crowd.make_room(), "one at a time");
        let [answered, _, third] = <[_; 3]>::try_from(flooding).unwrap();
        let fourth = enter(flood).unwrap();
        drop(fourth);
        // Each has one that waits: the one that has waited longest goes.
        let fourth = enter(other).unwrap();
        assert!(crowd.make_room() && is_closing(&first), "two of them");
        drop((first, fourth));
        assert!(crowd.make_room() && is_closing(&third));
        drop(third);
        assert!(!crowd.make_room());
        drop(answering);
        assert!(crowd.make_room() && is_closing(&answered));
    }

    #[test]
    fn what_everybody_may_ask_makes_nobody_younger() {
        let peer = IpAddr::from([10, 0, 0, 1]);
        let crowd = Crowd::new(2, Duration::ZERO);
        let [first, second] = [(); 2].map(|()| {
            std::thread::sleep(Duration::from_millis(2));
            Arc::new(crowd.enter(peer).unwrap())
        });
        let is_closing = |seat: &Arc<Seat>| seat.connection.state.load(Ordering::Relaxed) == CLOSING;
        std::thread::sleep(Duration::from_millis(2));
        drop(second.answering().unwrap());
        drop(first.answering().unwrap().admitted());
        assert!(crowd.make_room() && is_closing(&second) && !is_closing(&first));
    }

    #[test]
    fn a_request_may_be_on_its_way() {
        let crowd = Crowd::new(1, Duration::from_hours(1));
        let _seat = crowd.enter(IpAddr::from([10, 0, 0, 1])).unwrap();
        assert!(!crowd.make_room());
    }
}
