//! What an audit log tells: who had what decrypted, when.

use std::{cmp::Reverse, collections::BTreeMap};

use cipherloom_kms::audit::{AuditEntry, DecryptionKind};
use cipherloom_primitives::{Address, Handle};
use serde::Serialize;
use serde_json::{Value, json};

use super::{ids::table, time};

/// The most requesters and handles that are told apart; logs of servers that are not trusted may name any number.
const MAX_KINDS: usize = 1 << 20;

/// Which records are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Selection {
    pub(super) requester: Option<Address>,
    pub(super) handle: Option<Handle>,
    pub(super) since: Option<u64>,
    pub(super) until: Option<u64>,
}

impl Selection {
    fn has(&self, entry: &AuditEntry) -> bool {
        self.requester.is_none_or(|requester| entry.requester == Some(requester))
            && self.handle.is_none_or(|handle| entry.handles.contains(&handle))
            && self.since.is_none_or(|since| entry.time >= since)
            && self.until.is_none_or(|until| entry.time < until)
    }
}

/// How often something occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Count {
    /// Requests.
    requests: u64,
    /// Values in them.
    values: u64,
    public: u64,
    user: u64,
    delegated: u64,
    /// The first and last time, in seconds since 1970.
    first: u64,
    last: u64,
}

impl Count {
    fn add(&mut self, entry: &AuditEntry, values: u64) {
        if self.requests == 0 {
            self.first = entry.time;
        }
        self.first = self.first.min(entry.time);
        self.last = self.last.max(entry.time);
        self.requests += 1;
        self.values += values;
        match entry.kind {
            DecryptionKind::Public => self.public += 1,
            DecryptionKind::User => self.user += 1,
            DecryptionKind::Delegated => self.delegated += 1,
        }
    }
}

/// The counts of a log.
#[derive(Debug, Default)]
pub(super) struct Summary {
    selection: Selection,
    records: u64,
    all: Count,
    requesters: BTreeMap<Option<Address>, Count>,
    handles: BTreeMap<Handle, Count>,
    days: BTreeMap<u64, Count>,
    /// What was not told apart any more.
    is_cut: bool,
}

impl Summary {
    pub(super) fn new(selection: Selection) -> Self {
        Self {
            selection,
            ..Self::default()
        }
    }

    /// Counts a record, if it is selected.
    pub(super) fn add(&mut self, entry: &AuditEntry) {
        self.records += 1;
        if !self.selection.has(entry) {
            return;
        }
        let values = entry.handles.len() as u64;
        self.all.add(entry, values);
        if let Some(count) = slot(&mut self.requesters, entry.requester, &mut self.is_cut) {
            count.add(entry, values);
        }
        if let Some(count) = slot(&mut self.days, entry.time / 86_400, &mut self.is_cut) {
            count.add(entry, values);
        }
        for handle in &entry.handles {
            if let Some(count) = slot(&mut self.handles, *handle, &mut self.is_cut) {
                count.add(entry, 1);
            }
        }
    }

    /// Writes tables of the most frequent.
    pub(super) fn lines(&self, top: usize) -> Vec<String> {
        let mut lines = vec![format!(
            "{} of {} records: {} public, {} user, {} delegated; {} values",
            self.all.requests, self.records, self.all.public, self.all.user, self.all.delegated, self.all.values
        )];
        if self.all.requests == 0 {
            return lines;
        }
        lines.push(format!(
            "from {} to {}",
            time::date_time(self.all.first),
            time::date_time(self.all.last)
        ));
        lines.push(String::new());
        let requesters = most(&self.requesters, top);
        lines.extend(section("requester", self.requesters.len(), requesters, |requester| {
            requester_name(*requester)
        }));
        lines.extend(section("handle", self.handles.len(), most(&self.handles, top), |handle| {
            handle.to_string()
        }));
        // The newest days.
        let days = self.days.iter().rev().take(top).map(|(day, count)| (day, *count)).collect();
        lines.extend(section("day", self.days.len(), days, |day| time::date(*day * 86_400)));
        if self.is_cut {
            lines.push(format!("only the first {MAX_KINDS} requesters and handles are told apart"));
        }
        lines
    }

    /// Writes the same for programs.
    pub(super) fn json(&self, top: usize) -> Value {
        let requesters: Vec<Value> = most(&self.requesters, top)
            .into_iter()
            .map(|(requester, count)| json!({ "requester": requester, "count": count }))
            .collect();
        let handles: Vec<Value> = most(&self.handles, top)
            .into_iter()
            .map(|(handle, count)| json!({ "handle": handle, "count": count }))
            .collect();
        let days: Vec<Value> = (self.days.iter().rev().take(top))
            .map(|(day, count)| json!({ "day": time::date(day * 86_400), "count": count }))
            .collect();
        json!({
            "records": self.records,
            "selected": self.all,
            "requesters": { "number": self.requesters.len(), "most": requesters },
            "handles": { "number": self.handles.len(), "most": handles },
            "days": { "number": self.days.len(), "newest": days },
            "isCut": self.is_cut,
        })
    }
}

/// Returns the count of something; `None` if there is no room for another one.
fn slot<'a, K: Ord>(map: &'a mut BTreeMap<K, Count>, key: K, is_cut: &mut bool) -> Option<&'a mut Count> {
    if map.len() >= MAX_KINDS && !map.contains_key(&key) {
        *is_cut = true;
        return None;
    }
    Some(map.entry(key).or_default())
}

/// Returns those with most values, the most first.
fn most<K: Ord>(map: &BTreeMap<K, Count>, top: usize) -> Vec<(&K, Count)> {
    let mut all: Vec<(&K, Count)> = map.iter().map(|(key, count)| (key, *count)).collect();
    all.sort_by_key(|(_, count)| Reverse((count.values, count.requests)));
    all.truncate(top);
    all
}

fn requester_name(requester: Option<Address>) -> String {
    requester.map_or_else(|| "anybody (public)".into(), |address| address.to_checksum(None))
}

fn section<K>(what: &str, number: usize, counts: Vec<(&K, Count)>, name: impl Fn(&K) -> String) -> Vec<String> {
    let shown = counts.len();
    let header = [what, "requests", "values", "public", "user", "delegated", "first", "last"]
        .map(str::to_owned)
        .to_vec();
    let rows = counts.into_iter().map(|(key, count)| {
        vec![
            name(key),
            count.requests.to_string(),
            count.values.to_string(),
            count.public.to_string(),
            count.user.to_string(),
            count.delegated.to_string(),
            time::date_time(count.first),
            time::date_time(count.last),
        ]
    });
    let mut lines = table(&std::iter::once(header).chain(rows).collect::<Vec<_>>());
    if shown < number {
        lines.push(format!("… and {} more", number - shown));
    }
    lines.push(String::new());
    lines
}

#[cfg(test)]
mod tests {
    use cipherloom_primitives::{B256, FheType};

    use super::*;

    fn handle(byte: u8) -> Handle {
        Handle::computed(B256::repeat_byte(byte), 31337, FheType::Uint64)
    }

    fn entries() -> Vec<AuditEntry> {
        let entry = |time, kind, requester: Option<u8>, handles: &[u8]| AuditEntry {
            time,
            kind,
            requester: requester.map(Address::repeat_byte),
            owners: Vec::new(),
            handles: handles.iter().map(|byte| handle(*byte)).collect(),
            request: B256::ZERO,
            share: None,
        };
        vec![
            entry(10, DecryptionKind::Public, None, &[1]),
            entry(20, DecryptionKind::User, Some(1), &[1, 2, 3]),
            entry(90_000, DecryptionKind::Delegated, Some(2), &[2]),
            entry(90_001, DecryptionKind::User, Some(1), &[3]),
        ]
    }

    fn summary(selection: Selection) -> Value {
        let mut summary = Summary::new(selection);
        entries().iter().for_each(|entry| summary.add(entry));
        assert!(!summary.lines(2).is_empty());
        summary.json(10)
    }

    #[test]
    fn everything_is_counted() {
        let all = summary(Selection::default());
        assert_eq!(all["records"], 4);
        assert_eq!(all["selected"]["values"], 6);
        assert_eq!(all["requesters"]["number"], 3);
        let first = &all["requesters"]["most"][0];
        assert_eq!(first["requester"], json!(Address::repeat_byte(1)));
        assert_eq!((&first["count"]["requests"], &first["count"]["values"]), (&json!(2), &json!(4)));
        assert_eq!((&first["count"]["first"], &first["count"]["last"]), (&json!(20), &json!(90_001)));
        assert_eq!(all["handles"]["number"], 3);
        assert_eq!(all["days"]["newest"][0]["day"], "1970-01-02");
        assert_eq!(all["days"]["newest"][1]["count"]["requests"], 2);
    }

    #[test]
    fn selections_leave_out_the_rest() {
        let requests = |selection| summary(selection)["selected"]["requests"].clone();
        let base = Selection::default;
        assert_eq!(
            requests(Selection {
                requester: Some(Address::repeat_byte(1)),
                ..base()
            }),
            2
        );
        assert_eq!(
            requests(Selection {
                handle: Some(handle(2)),
                ..base()
            }),
            2
        );
        assert_eq!(requests(Selection { since: Some(20), ..base() }), 3);
        assert_eq!(
            requests(Selection {
                since: Some(20),
                until: Some(90_000),
                ..base()
            }),
            1
        );
        assert_eq!(
            requests(Selection {
                requester: Some(Address::ZERO),
                ..base()
            }),
            0
        );
    }

    #[test]
    fn tables_say_what_they_leave_out() {
        let mut summary = Summary::new(Selection::default());
        entries().iter().for_each(|entry| summary.add(entry));
        let lines = summary.lines(1);
        assert!(
            lines.iter().any(|line| line.contains("anybody") || line.starts_with("0x")),
            "{lines:?}"
        );
        assert_eq!(lines.iter().filter(|line| line.contains("more")).count(), 3, "{lines:?}");
    }
}
