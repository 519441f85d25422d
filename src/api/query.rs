//! The query string of an audit request: filters, and how to page through what they find.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ledger::filter::parameters::{Parameter, Sets, Wrong, once, unknown};
use crate::ledger::{DEFAULT_LIMIT, FIELDS, Filter, MAX_LIMIT, MORE_FIELDS, Order};
use crate::text::{nearest, plain};

/// What pages are asked for by, besides filters. A second name in brackets is another word for the same.
pub const PAGING: [&str; 6] = ["limit", "page", "cursor", "order", "after", "fields"];

/// Which page of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Which entries, in which order; `limit` is set, `skip` is the pages before this one.
    pub filter: Filter,
    /// Counted from 1.
    pub page: u32,
    /// The number of the entry after which the page begins.
    pub start: Option<i64>,
    /// Only these members of each entry.
    pub fields: Option<Vec<String>>,
}

/// A query string as names and values.
///
/// # Errors
/// Names the parameter that is not percent-encoded UTF-8.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, Wrong> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = || format!("`{name}` is not valid percent-encoded UTF-8");
            Ok((decode(name).ok_or_else(wrong)?, decode(value).ok_or_else(wrong)?))
        })
        .collect()
}

/// A query string as it is recorded: decoded, so that redaction finds what it looks for, but for what would read as another
/// parameter.
#[must_use]
pub fn recorded(query: &str) -> String {
    let Ok(pairs) = pairs(query) else { return query.to_owned() };
    let plainly = |text: &str| text.replace('%', "%25").replace('&', "%26");
    let shown = |(name, value): &(String, String)| match value.as_str() {
        "" => plainly(name),
        value => format!("{}={}", plainly(name), plainly(value)),
    };
    pairs.iter().map(shown).collect::<Vec<_>>().join("&")
}

/// Takes the filters out of a query string, and hands every other parameter to `other`, which answers `false` where it does not
/// know it either. `others` are the names it knows.
///
/// # Errors
/// Names the parameter, its value and what is accepted.
pub fn filters(
    query: &str,
    now_ms: i64,
    others: &[&'static str],
    mut other: impl FnMut(&str, &str, &mut Filter) -> Result<bool, Wrong>,
) -> Result<Filter, Wrong> {
    let mut filter = Filter::default();
    let mut given: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs(query)? {
        // A plus sign is a space in a query string, and part of a time zone in a time.
        let is_time =
            Parameter::of(&name).is_some_and(|known| matches!(known.sets, Sets::Since | Sets::Until));
        let value = if is_time { value.replace(' ', "+") } else { value };
        if other(&name, &value, &mut filter)? {
            let plainly = plain(&name);
            match given.iter().find(|(known, _)| *known == plainly) {
                _ if plainly == FIELDS_PARAMETER => {}
                Some((_, before)) => once(&name, &value, &mut Some(before), &value)?,
                None => given.push((plainly, value)),
            }
        } else if !filter.set(&name, &value, now_ms)? {
            return Err(unknown(&name, &value, others));
        }
    }
    Ok(filter)
}

/// The parameter that names members. Given again, it names more.
const FIELDS_PARAMETER: &str = "fields";

impl Query {
    /// Reads a query string.
    ///
    /// # Errors
    /// Names the parameter, its value and what is accepted.
    pub fn parse(query: &str, now_ms: i64) -> Result<Self, Wrong> {
        let (mut page, mut paging) = (1, Paging::default());
        let mut fields: Option<Vec<String>> = None;
        let mut filter = filters(query, now_ms, &PAGING, |name, value, filter| {
            match plain(name).as_str() {
                "limit" | "pagesize" | "perpage" | "size" => {
                    once(name, value, &mut filter.limit, number(name, value, 1, MAX_LIMIT)?)?;
                }
                "page" => page = number(name, value, 1, u32::MAX)?,
                FIELDS_PARAMETER => fields.get_or_insert_default().extend(members(name, value)?),
                _ => return paging.set(name, value, filter),
            }
            Ok(true)
        })?;
        let start = paging.start(&mut filter)?;
        if start.is_some() && page > 1 {
            return Err("`cursor` and `page` are two ways to say where a page begins; leave one out".into());
        }
        let limit = *filter.limit.get_or_insert(DEFAULT_LIMIT);
        filter.skip = u64::from(page - 1) * u64::from(limit);
        Ok(Self { filter, page, start, fields })
    }
}

/// Order and beginning of a list, as they are written.
#[derive(Default)]
pub struct Paging {
    cursor: Option<(Option<Order>, i64)>,
    order: Option<Order>,
}

impl Paging {
    /// Takes one parameter; `false` where it is another's.
    ///
    /// # Errors
    /// Names the parameter, its value and what is accepted.
    pub fn set(&mut self, name: &str, value: &str, filter: &mut Filter) -> Result<bool, Wrong> {
        match plain(name).as_str() {
            "order" | "sortorder" | "sort" => {
                let order = match value.to_ascii_lowercase().as_str() {
                    "asc" | "oldest" => Order::Oldest,
                    "desc" | "newest" => Order::Newest,
                    _ => return Err(format!("`{name}` must be one of `asc`, `desc`, not `{value}`")),
                };
                once(name, value, &mut self.order, order)?;
            }
            "cursor" => self.cursor = Some(cursor(name, value)?),
            "after" => {
                let seq = value.parse().ok().filter(|seq: &i64| *seq >= -1);
                let seq = seq.ok_or_else(|| {
                    format!("`{name}` must be the leaf index of an entry (its `seq`), and `{value}` is not")
                })?;
                filter.after_seq = Some(seq);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Puts the order into the filter; answers where the list begins.
    ///
    /// # Errors
    /// The cursor is of a list that runs the other way.
    pub fn start(self, filter: &mut Filter) -> Result<Option<i64>, Wrong> {
        let of_cursor = self.cursor.and_then(|(order, _)| order);
        if let (Some(order), Some(cursor)) = (self.order, of_cursor)
            && order != cursor
        {
            return Err("`cursor` is of a list in the other `order`; begin anew, or leave `order` out".into());
        }
        filter.order = self.order.or(of_cursor).unwrap_or_default();
        Ok(self.cursor.map(|(_, seq)| seq))
    }
}

/// Where the next page begins: opaque to clients, so that it may change.
#[must_use]
pub fn cursor_at(order: Order, seq: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{seq}", if order == Order::Newest { 'd' } else { 'a' }))
}

/// A cursor, or the number of the last entry that was received.
fn cursor(name: &str, value: &str) -> Result<(Option<Order>, i64), Wrong> {
    if let Ok(seq) = value.parse::<i64>() {
        return Ok((None, seq));
    }
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
        let order = match text.chars().next()? {
            'd' => Order::Newest,
            'a' => Order::Oldest,
            _ => return None,
        };
        Some((Some(order), text.get(1..)?.parse().ok()?))
    };
    read().ok_or_else(|| {
        format!(
            "`{name}` must be the `nextCursor` of an earlier answer, or the `seq` of the last entry received, and `{value}` is \
             neither"
        )
    })
}

/// A whole number within bounds.
///
/// # Errors
/// Names the parameter, its value and the bounds.
pub fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy>(
    name: &str,
    value: &str,
    least: T,
    most: T,
) -> Result<T, Wrong> {
    let parsed = value.parse().ok().filter(|number| (&least..=&most).contains(&number));
    parsed.ok_or_else(|| format!("`{name}` must be a number from {least} to {most}, and `{value}` is not"))
}

fn members(name: &str, value: &str) -> Result<Vec<String>, Wrong> {
    let known = || FIELDS.into_iter().chain(MORE_FIELDS);
    let mut members = Vec::new();
    for member in value.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        let found = known().find(|known| plain(known) == plain(member)).ok_or_else(|| {
            let meant = nearest(member, known()).map(|known| format!(" (did you mean `{known}`?)"));
            let listed: Vec<&str> = known().collect();
            format!(
                "`{name}`: an entry has no `{member}`{}; it has `{}`",
                meant.unwrap_or_default(),
                listed.join("`, `")
            )
        })?;
        members.push(found.to_owned());
    }
    if members.is_empty() {
        return Err(format!("`{name}` names no member; write them with commas, as `{name}=id,decision`"));
    }
    Ok(members)
}

/// One value of a query string, decoded: there a plus sign is a space.
#[must_use]
pub fn decode(value: &str) -> Option<String> {
    decode_path(&value.replace('+', " "))
}

/// A path, percent-decoded (RFC 3986 §2.1).
#[must_use]
pub fn decode_path(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_recorded_as_it_is_meant() {
        assert_eq!(
            recorded("user=password%3Dhunter2+x&since=1h&trace"),
            "user=password=hunter2 x&since=1h&trace"
        );
        // A value that reads like another parameter is none.
        assert_eq!(recorded("user=a%26decision%3Ddeny%25"), "user=a%26decision=deny%25");
        assert_eq!(recorded("user=%ff&since=1h"), "user=%ff&since=1h");
    }

    #[test]
    fn cursors_go_on_in_the_order_they_came_from() {
        let next = cursor_at(Order::Oldest, 41);
        let query = Query::parse(&format!("cursor={next}&limit=5"), 0).unwrap();
        assert_eq!((query.filter.order, query.start, query.filter.limit), (Order::Oldest, Some(41), Some(5)));
        assert!(Query::parse(&format!("cursor={next}&order=desc"), 0).unwrap_err().contains("other `order`"));
        assert_eq!(Query::parse("cursor=41&order=asc", 0).unwrap().start, Some(41));
        let paged = Query::parse("page=3&pageSize=7", 0).unwrap();
        assert_eq!((paged.filter.skip, paged.filter.limit), (14, Some(7)));
        for wrong in [
            "cursor=x!",
            "cursor=1&page=2",
            "fields=",
            "fields=idd",
            "limit=1001",
            "page=0",
            "order=up",
            "order=asc&order=desc",
            "limit=5&limit=6",
            "limit=5&pageSize=6",
            "%ff=1",
        ] {
            assert!(Query::parse(wrong, 0).is_err(), "{wrong}");
        }
        let fields = Query::parse("fields=id&fields=seq,kind", 0).unwrap().fields;
        assert_eq!(fields.unwrap(), ["id", "seq", "kind"]);
        let zoned = Query::parse("since=2026-11-20T08:00:00+01:00", 0).unwrap();
        assert_eq!(zoned.filter.since_ms, Some(1_795_158_000_000));
    }
}
