//! Places of what there is only so much of, shared so that nobody takes all of it.
//!
//! A place may weigh more than one (bytes). Whoever holds it gives it back by dropping it. It knows names and weights, and
//! nothing of what the places are for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::principal::{Principal, Role};

/// A bound that many share.
#[derive(Debug)]
pub struct Places {
    /// What there is so much of, as `requests under way`.
    what: &'static str,
    /// In all, and the setting that says so.
    all: (usize, &'static str),
    /// For whoever is no admin, together: some are left, so that an admin gets in whatever others do.
    others: usize,
    /// For one of them, likewise.
    each: (usize, &'static str),
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    others: usize,
    each: HashMap<Arc<str>, usize>,
}

/// A place that is held.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// Who holds it, unless that is an admin.
    holder: Option<Arc<str>>,
    weight: usize,
}

/// Why there is no place, and what may be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Full(String);

impl Places {
    /// As many as `all`, of which one holder has `each` at most, and an eighth is kept for admins. Each comes with the setting
    /// that says how much it is.
    #[must_use]
    pub fn new(what: &'static str, all: (usize, &'static str), each: (usize, &'static str)) -> Arc<Self> {
        let kept = all.0.div_ceil(8).min(all.0.saturating_sub(1));
        let others = all.0.saturating_sub(kept);
        Arc::new(Self { what, all, others, each: (each.0.min(others), each.1), held: Mutex::default() })
    }

    /// Takes a place for a principal; admins take what is left.
    ///
    /// # Errors
    /// There is none for them now.
    pub fn take(self: &Arc<Self>, principal: &Principal, weight: usize) -> Result<Place, Full> {
        if principal.role != Role::Admin {
            return self.take_for(&principal.name, weight);
        }
        let mut place = Place { places: self.clone(), holder: None, weight: 0 };
        place.widen(weight)?;
        Ok(place)
    }

    /// Takes a place for somebody who is no admin.
    ///
    /// # Errors
    /// As [`Places::take`].
    pub fn take_for(self: &Arc<Self>, holder: &str, weight: usize) -> Result<Place, Full> {
        let mut place = Place { places: self.clone(), holder: Some(Arc::from(holder)), weight: 0 };
        place.widen(weight)?;
        Ok(place)
    }

    /// Takes a place for somebody who is blocked, and may have `few` of them meanwhile.
    ///
    /// # Errors
    /// As [`Places::take`].
    pub fn take_for_blocked(self: &Arc<Self>, holder: &str, few: usize) -> Result<Place, Full> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.each.get(holder).copied().unwrap_or_default();
        if own >= few {
            let what = self.what;
            return Err(Full(format!(
                "`{holder}` has {own} {what}, and may have {few} while it is blocked; wait until one has ended"
            )));
        }
        let holder = Some(Arc::from(holder));
        self.add(&mut held, holder.as_ref(), 1)?;
        Ok(Place { places: self.clone(), holder, weight: 1 })
    }

    fn add(&self, held: &mut Held, holder: Option<&Arc<str>>, more: usize) -> Result<(), Full> {
        let (each, setting) = self.each;
        if let Some(holder) = holder {
            let own = held.each.get(holder).copied().unwrap_or_default();
            if own + more > each {
                let what = self.what;
                return Err(Full(format!(
                    "`{holder}` has {own} {what}, and may have {each} (`{setting}`); wait until one has ended"
                )));
            }
            if held.others + more > self.others {
                return Err(self.taken());
            }
        }
        if held.all + more > self.all.0 {
            return Err(self.taken());
        }
        held.all += more;
        if let Some(holder) = holder {
            held.others += more;
            *held.each.entry(holder.clone()).or_default() += more;
        }
        Ok(())
    }

    fn taken(&self) -> Full {
        let Self { what, all: (all, setting), .. } = self;
        Full(format!(
            "others have as many {what} as there may be, of {all} (`{setting}`); try again when some have ended"
        ))
    }
}

impl Place {
    /// Takes more of it, up to `weight` in all. What is larger than everything its holder may have has that alone.
    ///
    /// # Errors
    /// There is no more of it now; what is held stays held.
    pub fn widen(&mut self, weight: usize) -> Result<(), Full> {
        let most = if self.holder.is_some() { self.places.each.0 } else { self.places.all.0 };
        let more = weight.min(most).saturating_sub(self.weight);
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.places.add(&mut held, self.holder.as_ref(), more)?;
        self.weight += more;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= self.weight;
        let Some(holder) = &self.holder else { return };
        held.others -= self.weight;
        if let Some(own) = held.each.get_mut(holder) {
            *own -= self.weight;
            if *own == 0 {
                held.each.remove(holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_and_an_admin_gets_in() {
        let setting = "admin.max_exports";
        let places = Places::new("exports under way", (4, setting), (2, setting));
        let admin = Principal::first_admin();
        let alice: Vec<_> = (0..2).map(|_| places.take_for("alice", 1).unwrap()).collect();
        assert_eq!(
            places.take_for("alice", 1).unwrap_err().to_string(),
            "`alice` has 2 exports under way, and may have 2 (`admin.max_exports`); wait until one has ended"
        );
        let bob = places.take_for("bob", 1).unwrap();
        let refused = places.take_for("carol", 1).unwrap_err().to_string();
        assert!(refused.starts_with("others have as many exports under way"), "{refused}");
        let last = places.take(&admin, 1).unwrap();
        assert!(places.take(&admin, 1).is_err());
        drop(alice);
        let admins: Vec<_> = (0..2).map(|_| places.take(&admin, 1).unwrap()).collect();
        assert!(places.take_for("carol", 1).is_err(), "admins take what others could have");
        drop((last, bob, admins));
        assert_eq!(places.held.lock().unwrap().all, 0);
        assert!(places.held.lock().unwrap().each.is_empty());
    }

    #[test]
    fn a_place_grows_and_who_is_blocked_has_few() {
        let places = Places::new("requests", (80, "x"), (20, "x"));
        let mut place = places.take_for("alice", 5).unwrap();
        place.widen(15).unwrap();
        place.widen(10).unwrap();
        assert!(places.take_for("alice", 6).is_err());
        let other = places.take_for("alice", 5).unwrap();
        assert!(place.widen(16).is_err());
        drop(other);
        place.widen(1_000).unwrap();
        assert_eq!(places.held.lock().unwrap().all, 20);
        drop(place);
        let few: Vec<_> = (0..2).map(|_| places.take_for_blocked("alice", 2).unwrap()).collect();
        assert_eq!(
            places.take_for_blocked("alice", 2).unwrap_err().to_string(),
            "`alice` has 2 requests, and may have 2 while it is blocked; wait until one has ended"
        );
        drop(few);
        assert_eq!(places.held.lock().unwrap().all, 0);
        assert!(places.held.lock().unwrap().each.is_empty());
    }

    #[test]
    fn what_is_larger_than_the_bound_has_it_alone() {
        let places = Places::new("bytes", (800, "x"), (200, "x"));
        let large = places.take_for("alice", 10_000).unwrap();
        assert!(places.take_for("alice", 1).is_err());
        assert!(places.take_for("bob", 150).is_ok());
        drop(large);
        assert!(places.take_for("alice", 1).is_ok());
        // Where there is one place, it is not kept for admins alone.
        assert!(Places::new("exports", (1, "x"), (1, "x")).take_for("alice", 1).is_ok());
    }
}
