//! Where contracts keep their state, and whether an upgrade would read it as it was written.
//!
//! A proxy's storage outlives its implementations: the new code finds what the old one wrote, at places and in forms that
//! only the sources know. A [`StorageLayout`] is the compiler's account of them, for every ERC-7201 namespace of a
//! contract, and [`StorageLayout::check_upgrade`] compares two. A new version may add namespaces, add members at the end of
//! one, and let structs grow that stand behind a mapping. Everything else changes what old data mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// How a version of a contract keeps its state, as the compiler's script writes it to `contracts/snapshots/storage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageLayout {
    /// The contract.
    pub contract: String,
    /// Its namespaces.
    pub namespaces: Vec<Namespace>,
    /// The types its members have, by the compiler's names without node numbers.
    pub types: BTreeMap<String, StorageType>,
}

/// A group of members that begins at a slot of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// `erc7201:` and a name, or `linear` for plain variables.
    pub id: String,
    /// The first slot.
    pub slot: B256,
    /// What is kept, in order.
    pub members: Vec<Member>,
}

/// One variable, or one field of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name in the sources.
    pub label: String,
    /// Its slot, counted from the beginning of its namespace or struct.
    pub slot: u64,
    /// Its first byte in the slot, from the lowest.
    pub offset: u64,
    /// The name of its type.
    #[serde(rename = "type")]
    pub ty: String,
}

/// How the compiler encodes a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Encoding {
    /// In the member's own place.
    Inplace,
    /// At hashes of the keys.
    Mapping,
    /// Length in place, elements at a hash.
    DynamicArray,
    /// A string or bytes: short ones in place, long ones at a hash.
    Bytes,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageType {
    /// How it is encoded.
    pub encoding: Encoding,
    /// How many bytes it takes in place.
    pub bytes: u64,
    /// The type of a mapping's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The type of a mapping's values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The type of an array's elements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The fields of a struct.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// One reason why an upgrade would misread storage. Places read like `erc7201:fhevm.storage.ACL.delegations[].counter`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutProblem {
    /// The new version knows nothing of a namespace.
    #[error("namespace {id} is gone")]
    NamespaceGone {
        /// The namespace.
        id: String,
    },
    /// A namespace begins at another slot.
    #[error("namespace {id} begins at {new} instead of {old}")]
    NamespaceMoved {
        /// The namespace.
        id: String,
        /// Its slot in the old version.
        old: B256,
        /// Its slot in the new version.
        new: B256,
    },
    /// The new version has no member there.
    #[error("{place} is gone")]
    MemberGone {
        /// The member.
        place: String,
    },
    /// Another member stands there. It may be the same under another name; then its name must wait for a review.
    #[error("{place} is called {new} in the new version")]
    MemberRenamed {
        /// The member in the old version.
        place: String,
        /// The name of what stands there in the new version.
        new: String,
    },
    /// A member is elsewhere.
    #[error("{place} is at slot {}, byte {} instead of slot {}, byte {}", new.0, new.1, old.0, old.1)]
    MemberMoved {
        /// The member.
        place: String,
        /// Slot and byte in the old version.
        old: (u64, u64),
        /// Slot and byte in the new version.
        new: (u64, u64),
    },
    /// The same bytes would be read as something else.
    #[error("{place} is a {new} instead of a {old}")]
    TypeChanged {
        /// The member.
        place: String,
        /// The type in the old version.
        old: String,
        /// The type in the new version.
        new: String,
    },
    /// A struct has another size where something follows it: another member, or the next element.
    #[error("{place} takes {new} bytes instead of {old}, and something stands behind it")]
    SizeChanged {
        /// The member.
        place: String,
        /// The size in the old version in bytes.
        old: u64,
        /// The size in the new version in bytes.
        new: u64,
    },
    /// A layout uses a type that it does not describe: it is no layout the script wrote.
    #[error("{place} has the type {name}, which its layout does not describe")]
    UnknownType {
        /// The member.
        place: String,
        /// The type's name.
        name: String,
    },
}

/// An upgrade would misread what is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct IncompatibleLayout {
    /// The contract.
    pub contract: String,
    /// Every reason, at least one.
    pub problems: Vec<LayoutProblem>,
}

impl fmt::Display for IncompatibleLayout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the new {} would misread what the present one has stored:",
            self.contract
        )?;
        self.problems.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
    }
}

impl StorageLayout {
    /// Checks that an implementation with the layout `new` finds everything that one with this layout has written.
    ///
    /// # Errors
    /// [`IncompatibleLayout`] with every difference that would change what stored data mean.
    pub fn check_upgrade(&self, new: &Self) -> Result<(), IncompatibleLayout> {
        let mut comparison = Comparison {
            old: &self.types,
            new: &new.types,
            seen: BTreeSet::new(),
            problems: Vec::new(),
        };
        for namespace in &self.namespaces {
            comparison.namespace(namespace, new.namespaces.iter().find(|candidate| candidate.id == namespace.id));
        }
        if comparison.problems.is_empty() {
            return Ok(());
        }
        Err(IncompatibleLayout {
            contract: new.contract.clone(),
            problems: comparison.problems,
        })
    }
}

/// Whether a struct may get more members where it stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Growth {
    /// Behind a mapping: slots up to the next hash are free.
    Free,
    /// Something follows.
    Blocked,
}

/// One walk through two layouts.
struct Comparison<'a> {
    old: &'a BTreeMap<String, StorageType>,
    new: &'a BTreeMap<String, StorageType>,
    /// Pairs of types that were compared, because a struct can hold a mapping to itself.
    seen: BTreeSet<(&'a str, &'a str, Growth)>,
    problems: Vec<LayoutProblem>,
}

impl<'a> Comparison<'a> {
    fn namespace(&mut self, old: &'a Namespace, new: Option<&'a Namespace>) {
        let id = old.id.clone();
        let Some(new) = new else {
            return self.problems.push(LayoutProblem::NamespaceGone { id });
        };
        if old.slot != new.slot {
            let (old, new) = (old.slot, new.slot);
            return self.problems.push(LayoutProblem::NamespaceMoved { id, old, new });
        }
        self.members(&id, &old.members, &new.members);
    }

    /// The old members must be the first of the new ones.
    fn members(&mut self, path: &str, old: &'a [Member], new: &'a [Member]) {
        for (index, member) in old.iter().enumerate() {
            let place = format!("{path}.{}", member.label);
            let Some(counterpart) = new.get(index) else {
                self.problems.push(LayoutProblem::MemberGone { place });
                continue;
            };
            if member.label != counterpart.label {
                let new = counterpart.label.clone();
                self.problems.push(LayoutProblem::MemberRenamed { place, new });
                continue;
            }
            let (old, new) = ((member.slot, member.offset), (counterpart.slot, counterpart.offset));
            if old != new {
                self.problems.push(LayoutProblem::MemberMoved { place, old, new });
                continue;
            }
            self.types(place, &member.ty, &counterpart.ty, Growth::Blocked);
        }
    }

    fn types(&mut self, place: String, old_name: &'a str, new_name: &'a str, growth: Growth) {
        if !self.seen.insert((old_name, new_name, growth)) {
            return;
        }
        let (Some(old), Some(new)) = (self.old.get(old_name), self.new.get(new_name)) else {
            let name = if self.old.contains_key(old_name) { new_name } else { old_name };
            let name = name.to_owned();
            return self.problems.push(LayoutProblem::UnknownType { place, name });
        };
        let is_struct = |ty: &StorageType| !ty.members.is_empty();
        let same_kind = old.encoding == new.encoding
            && is_struct(old) == is_struct(new)
            && old.key.as_deref().map(value_type) == new.key.as_deref().map(value_type)
            && old.value.is_some() == new.value.is_some()
            && old.base.is_some() == new.base.is_some();
        let is_composed = is_struct(old) || old.value.is_some() || old.base.is_some();
        if !same_kind || (!is_composed && value_type(old_name) != value_type(new_name)) {
            return self.problems.push(LayoutProblem::TypeChanged {
                place,
                old: old_name.to_owned(),
                new: new_name.to_owned(),
            });
        }
        let may_differ = is_struct(old) && growth == Growth::Free && new.bytes > old.bytes;
        if old.bytes != new.bytes && !may_differ {
            return self.problems.push(LayoutProblem::SizeChanged {
                place,
                old: old.bytes,
                new: new.bytes,
            });
        }
        if let (Some(old), Some(new)) = (&old.value, &new.value) {
            self.types(format!("{place}[]"), old, new, Growth::Free);
        }
        if let (Some(old), Some(new)) = (&old.base, &new.base) {
            self.types(format!("{place}[]"), old, new, Growth::Blocked);
        }
        self.members(&place, &old.members, &new.members);
    }
}

/// The name that decides how a value is stored: a contract is stored as its address.
fn value_type(name: &str) -> &str {
    if name.starts_with("t_contract(") || name == "t_address_payable" {
        "t_address"
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_contract::HostContract;

    fn layout() -> StorageLayout {
        HostContract::Acl.storage_layout()
    }

    fn own(layout: &mut StorageLayout) -> &mut Namespace {
        let own = layout
            .namespaces
            .iter_mut()
            .find(|namespace| namespace.id == "erc7201:fhevm.storage.ACL");
        own.unwrap()
    }

    fn problems(change: impl FnOnce(&mut StorageLayout)) -> Vec<LayoutProblem> {
        let mut new = layout();
        change(&mut new);
        layout().check_upgrade(&new).map_or_else(|error| error.problems, |()| Vec::new())
    }

    const DELEGATION: &str = "t_struct(Delegation)_storage";

    #[test]
    fn every_contract_can_be_upgraded_to_itself() {
        for contract in HostContract::ALL {
            contract.storage_layout().check_upgrade(&contract.storage_layout()).unwrap();
        }
    }

    #[test]
    fn additions_at_an_end_are_compatible() {
        let appended = Member {
            label: "later".to_owned(),
            slot: 5,
            offset: 0,
            ty: "t_uint256".to_owned(),
        };
        assert_eq!(problems(|new| own(new).members.push(appended.clone())), []);
        let more = Namespace {
            id: "erc7201:fhevm.storage.More".to_owned(),
            slot: B256::repeat_byte(1),
            members: vec![appended.clone()],
        };
        assert_eq!(problems(|new| new.namespaces.push(more)), []);
        // A struct behind a mapping has room.
        let grown = problems(|new| {
            let delegation = new.types.get_mut(DELEGATION).unwrap();
            delegation.bytes += 32;
            delegation.members.push(Member { slot: 1, ..appended });
        });
        assert_eq!(grown, []);
    }

    #[test]
    fn members_keep_their_place_name_and_type() {
        let place = |name: &str| format!("erc7201:fhevm.storage.ACL.{name}");
        let removed = problems(|new| drop(own(new).members.pop()));
        assert_eq!(
            removed,
            [LayoutProblem::MemberGone {
                place: place("signaturesInvalidatedBefore")
            }]
        );
        let swapped = problems(|new| own(new).members.swap(0, 1));
        assert_eq!(swapped.len(), 2);
        assert!(matches!(&swapped[0], LayoutProblem::MemberRenamed { new, .. } if new == "allowedForDecryption"));
        let moved = problems(|new| own(new).members[3].slot += 1);
        assert_eq!(
            moved,
            [LayoutProblem::MemberMoved {
                place: place("denied"),
                old: (3, 0),
                new: (4, 0)
            }]
        );
        let retyped = problems(|new| own(new).members[1].ty = own(new).members[3].ty.clone());
        assert!(
            matches!(&retyped[..], [LayoutProblem::TypeChanged { place: found, .. }] if *found == place("allowedForDecryption")),
            "{retyped:?}"
        );
        let inner = problems(|new| new.types.get_mut(DELEGATION).unwrap().members.swap(0, 2));
        assert!(
            matches!(&inner[0], LayoutProblem::MemberRenamed { place, .. } if place.ends_with(".delegations[][][].expirationDate")),
            "{inner:?}"
        );
    }

    #[test]
    fn namespaces_neither_vanish_nor_move() {
        let gone = problems(|new| new.namespaces.retain(|namespace| !namespace.id.ends_with("Pausable")));
        assert!(matches!(&gone[..], [LayoutProblem::NamespaceGone { id }] if id.ends_with("Pausable")));
        let moved = problems(|new| own(new).slot = B256::ZERO);
        assert!(matches!(&moved[..], [LayoutProblem::NamespaceMoved { .. }]));
    }

    #[test]
    fn a_struct_grows_only_where_nothing_follows() {
        // ProtocolConfig's contexts hold a signer set, and members behind it.
        let (old, mut new) = (
            HostContract::ProtocolConfig.storage_layout(),
            HostContract::ProtocolConfig.storage_layout(),
        );
        let set = new.types.get_mut("t_struct(SignerSet)_storage").unwrap();
        set.bytes += 32;
        let error = old.check_upgrade(&new).unwrap_err();
        assert!(
            matches!(&error.problems[..], [LayoutProblem::SizeChanged { place, .. }] if place.ends_with("contexts[].signerSet")),
            "{error}"
        );
        assert!(error.to_string().contains("ProtocolConfig would misread"));
    }

    #[test]
    fn addresses_of_contracts_are_addresses_and_unknown_types_are_named() {
        let retyped = |old: &str, new: &str| {
            let single = |ty: &str| {
                let mut layout = layout();
                layout.namespaces.truncate(1);
                layout.namespaces[0].members = vec![Member {
                    label: "peer".to_owned(),
                    slot: 0,
                    offset: 0,
                    ty: ty.to_owned(),
                }];
                for known in ["t_address", "t_contract(IACL)"] {
                    let address = StorageType {
                        encoding: Encoding::Inplace,
                        bytes: 20,
                        key: None,
                        value: None,
                        base: None,
                        members: Vec::new(),
                    };
                    layout.types.insert(known.to_owned(), address);
                }
                layout
            };
            single(old).check_upgrade(&single(new))
        };
        retyped("t_contract(IACL)", "t_address").unwrap();
        let error = retyped("t_address", "t_mystery").unwrap_err();
        assert!(matches!(&error.problems[..], [LayoutProblem::UnknownType { name, .. }] if name == "t_mystery"));
    }

    #[test]
    fn slots_are_those_of_the_namespaces_names() {
        use alloy_primitives::{U256, keccak256};
        for contract in HostContract::ALL {
            for namespace in contract.storage_layout().namespaces {
                let Some(name) = namespace.id.strip_prefix("erc7201:") else {
                    continue;
                };
                let before = U256::from_be_bytes(keccak256(name).0) - U256::ONE;
                let mut slot = keccak256(before.to_be_bytes::<32>());
                slot.0[31] = 0;
                assert_eq!(namespace.slot, slot, "{contract} {name}");
            }
        }
    }
}
