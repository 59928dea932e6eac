//! The log of what dstack measured into RTMR3, replayed.
//!
//! The registers MRTD and RTMR0 to RTMR2 say which firmware, virtual hardware, kernel and root file system were started; RTMR3 says which
//! application. It is a chain: `register := SHA-384(register ‖ digest)` for each event, from 48 zero bytes. Verifiers get the events and recompute
//! *each digest from its name and payload*; a digest in the log itself would be somebody's word.
//!
//! What the boot measured ends with the event `system-ready`. The application can add events after it, with any name, so what comes later
//! never counts.
//!
//! Source: design of dstack 0.5, runtime events. Version 1 of an event hashes `type ‖ ":" ‖ name ‖ ":" ‖ payload`; version 2 hashes canonical JSON.

use alloy_primitives::{Bytes, FixedBytes, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha384};

use crate::{AttestError, evidence::MAX_EVENTS};

/// The type of runtime events.
const RUNTIME_EVENT: u32 = 0x0800_0001;

/// The event that ends what the boot measured.
const SYSTEM_READY: &str = "system-ready";

/// The longest name of an event, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The longest payload of an event, in bytes.
const MAX_PAYLOAD_BYTES: usize = 1024;

/// How an event's digest is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventForm {
    /// Type, name and payload with colons between them.
    #[default]
    V1,
    /// Canonical JSON of name, payload and type.
    V2,
}

/// An event measured into RTMR3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// How its digest is made.
    #[serde(default)]
    pub form: EventForm,
    /// What it is about.
    pub name: String,
    /// What it says.
    pub payload: Bytes,
}

impl Event {
    /// Makes an event of the first version.
    #[must_use]
    pub fn new(name: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            form: EventForm::V1,
            name: name.into(),
            payload: payload.into(),
        }
    }

    /// Returns what was measured for the event.
    #[must_use]
    pub fn digest(&self) -> FixedBytes<48> {
        let mut hasher = Sha384::new();
        match self.form {
            EventForm::V1 => {
                hasher.update(RUNTIME_EVENT.to_le_bytes());
                hasher.update(b":");
                hasher.update(self.name.as_bytes());
                hasher.update(b":");
                hasher.update(&self.payload);
            }
            EventForm::V2 => {
                // Canonical JSON: members in the order of their names, no spaces. Names of events need escapes like any JSON text.
                let name = serde_json::Value::from(self.name.as_str());
                hasher.update(format!(
                    r#"{{"name":{name},"payload":"{}","type":{RUNTIME_EVENT}}}"#,
                    hex::encode(&self.payload)
                ));
            }
        }
        FixedBytes::from_slice(&hasher.finalize())
    }
}

/// One entry of the log as the guest agent gives it.
#[derive(Deserialize)]
struct LoggedEvent {
    imr: u32,
    #[serde(default)]
    event_type: u32,
    #[serde(default)]
    digest: String,
    event: String,
    #[serde(default)]
    event_payload: String,
}

/// Takes the events of RTMR3 from the guest agent's log, which covers all registers.
///
/// # Errors
/// [`AttestError::Malformed`] if the log is not in its form, or an event has a digest that neither version gives.
pub fn parse_agent_log(json: &str) -> Result<Vec<Event>, AttestError> {
    let malformed = |problem: String| AttestError::Malformed(format!("event log: {problem}"));
    let logged: Vec<LoggedEvent> = serde_json::from_str(json).map_err(|error| malformed(error.to_string()))?;
    let runtime = logged.into_iter().filter(|event| event.imr == 3);
    let events = runtime
        .map(|logged| {
            if logged.event_type != RUNTIME_EVENT {
                return Err(malformed(format!(
                    "event {:?} has the unknown type {:#x}",
                    logged.event, logged.event_type
                )));
            }
            let payload = hex::decode(&logged.event_payload).map_err(|error| malformed(error.to_string()))?;
            let digest = hex::decode(&logged.digest).map_err(|error| malformed(error.to_string()))?;
            let event = Event::new(logged.event, payload);
            let candidates = [
                event.clone(),
                Event {
                    form: EventForm::V2,
                    ..event
                },
            ];
            candidates
                .into_iter()
                .find(|event| event.digest().as_slice() == digest)
                .ok_or_else(|| malformed("a digest is that of another name and payload".into()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    check_size(&events)?;
    Ok(events)
}

/// Which application a trust domain runs, as the boot measured it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppIdentity {
    /// The application's id.
    pub app_id: Bytes,
    /// The digest of its composition: which containers with which settings.
    pub compose_hash: Bytes,
    /// The id of this instance.
    pub instance_id: Bytes,
    /// Who gives the application its keys.
    pub key_provider: Bytes,
    /// The digest of the operating system's image, where it is measured.
    pub os_image_hash: Bytes,
}

/// Replays a log, compares it with the register, and returns the application that it names.
///
/// # Errors
/// [`AttestError::Malformed`] if the log is too long, names something twice or does not end its boot; [`AttestError::EventLog`] if it gives another
/// register.
pub fn replay(events: &[Event], rtmr3: &[u8; 48]) -> Result<AppIdentity, AttestError> {
    check_size(events)?;
    let replayed = register(events);
    if replayed != rtmr3 {
        return Err(AttestError::EventLog {
            replayed: Box::new(replayed),
            quoted: Box::new(FixedBytes(*rtmr3)),
        });
    }
    let boot = events
        .iter()
        .position(|event| event.name == SYSTEM_READY)
        .and_then(|end| events.get(..end))
        .ok_or_else(|| AttestError::Malformed(format!("the event log has no {SYSTEM_READY:?}: the boot did not end")))?;
    let find = |name: &str, is_needed: bool| {
        let mut found = boot.iter().filter(|event| event.name == name);
        match (found.next(), found.next()) {
            (Some(event), None) => Ok(event.payload.clone()),
            (None, _) if !is_needed => Ok(Bytes::new()),
            (None, _) => Err(AttestError::Malformed(format!("the event log has no {name:?}"))),
            (Some(_), Some(_)) => Err(AttestError::Malformed(format!("the event log has {name:?} twice"))),
        }
    };
    Ok(AppIdentity {
        app_id: find("app-id", true)?,
        compose_hash: find("compose-hash", true)?,
        instance_id: find("instance-id", false)?,
        key_provider: find("key-provider", true)?,
        os_image_hash: find("os-image-hash", false)?,
    })
}

/// Returns the register that measuring these events gives.
#[must_use]
pub fn register(events: &[Event]) -> FixedBytes<48> {
    events.iter().fold(FixedBytes::ZERO, |register, event| {
        let mut hasher = Sha384::new();
        hasher.update(register);
        hasher.update(event.digest());
        FixedBytes::from_slice(&hasher.finalize())
    })
}

fn check_size(events: &[Event]) -> Result<(), AttestError> {
    let is_long = |event: &&Event| event.name.len() > MAX_NAME_BYTES || event.payload.len() > MAX_PAYLOAD_BYTES;
    if events.len() > MAX_EVENTS {
        return Err(AttestError::Malformed(format!("the event log has {} events", events.len())));
    }
    match events.iter().find(is_long) {
        Some(_) => Err(AttestError::Malformed("an event of the log is too long".into())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Vec<Event> {
        vec![
            Event::new("app-id", vec![1; 20]),
            Event::new("compose-hash", vec![2; 32]),
            Event::new("instance-id", vec![3; 20]),
            Event::new("boot-mr-done", vec![]),
            Event::new("key-provider", br#"{"name":"kms","id":"04"}"#.to_vec()),
            Event::new("system-ready", vec![]),
        ]
    }

    #[test]
    fn the_digest_of_an_event_is_that_of_its_parts() {
        let event = Event::new("app-id", vec![0xaa, 0xbb]);
        let by_hand = Sha384::digest([&[1, 0, 0, 8][..], b":app-id:", &[0xaa, 0xbb]].concat());
        assert_eq!(event.digest().as_slice(), by_hand.as_slice());
        let second = Event {
            form: EventForm::V2,
            ..event
        };
        let by_hand = Sha384::digest(br#"{"name":"app-id","payload":"aabb","type":134217729}"#);
        assert_eq!(second.digest().as_slice(), by_hand.as_slice());
    }

    #[test]
    fn an_empty_log_gives_the_register_of_a_machine_that_just_started() {
        assert_eq!(register(&[]), FixedBytes::<48>::ZERO);
        assert!(matches!(replay(&[], &[0; 48]), Err(AttestError::Malformed(_))));
    }

    #[test]
    fn the_log_names_the_application() {
        let events = boot();
        let identity = replay(&events, &register(&events)).unwrap();
        assert_eq!(identity.app_id, vec![1; 20]);
        assert_eq!(identity.compose_hash, vec![2; 32]);
        assert_eq!(identity.instance_id, vec![3; 20]);
        assert!(identity.key_provider.starts_with(b"{"));
        assert!(identity.os_image_hash.is_empty());
    }

    #[test]
    fn events_of_the_application_do_not_rename_it() {
        let mut events = boot();
        events.push(Event::new("compose-hash", vec![9; 32]));
        events.push(Event::new("app-id", vec![9; 20]));
        let identity = replay(&events, &register(&events)).unwrap();
        assert_eq!(identity.compose_hash, vec![2; 32]);
        // Without an end of the boot, everything would be the application's word.
        let endless: Vec<Event> = boot().into_iter().filter(|event| event.name != SYSTEM_READY).collect();
        assert!(matches!(replay(&endless, &register(&endless)), Err(AttestError::Malformed(_))));
    }

    #[test]
    fn a_boot_that_names_something_twice_is_refused() {
        let mut events = boot();
        events.insert(1, Event::new("compose-hash", vec![9; 32]));
        assert!(matches!(replay(&events, &register(&events)), Err(AttestError::Malformed(_))));
    }

    #[test]
    fn every_change_of_the_log_changes_the_register() {
        let events = boot();
        let measured = register(&events);
        for index in 0..events.len() {
            let mut without = events.clone();
            without.remove(index);
            assert!(matches!(replay(&without, &measured), Err(AttestError::EventLog { .. })));
            let mut changed = events.clone();
            changed[index].payload = b"other".to_vec().into();
            assert!(matches!(replay(&changed, &measured), Err(AttestError::EventLog { .. })));
            let mut swapped = events.clone();
            swapped.swap(index, (index + 1) % events.len());
            assert!(matches!(replay(&swapped, &measured), Err(AttestError::EventLog { .. })));
        }
    }

    #[test]
    fn the_agents_log_is_recomputed_not_believed() {
        let entry = |event: &Event, imr: u32, digest: String| serde_json::json!({ "imr": imr, "event_type": RUNTIME_EVENT, "digest": digest, "event": event.name, "event_payload": hex::encode(&event.payload) });
        let first = Event::new("app-id", vec![1; 20]);
        let second = Event {
            form: EventForm::V2,
            ..Event::new("compose-hash", vec![2; 32])
        };
        let log = serde_json::json!([
            entry(&first, 0, "00".into()),
            entry(&first, 3, hex::encode(first.digest())),
            entry(&second, 3, hex::encode(second.digest())),
        ]);
        assert_eq!(parse_agent_log(&log.to_string()).unwrap(), [first.clone(), second]);
        let forged = serde_json::json!([entry(&first, 3, hex::encode([7; 48]))]);
        assert!(matches!(parse_agent_log(&forged.to_string()), Err(AttestError::Malformed(_))));
    }
}
