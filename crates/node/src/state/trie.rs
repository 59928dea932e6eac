//! A persistent Merkle Patricia trie over 32-byte keys.
//!
//! The development chain keeps the state of many past blocks. Every trie here is immutable in
//! effect: cloning is one reference count, and a change copies only the path it touches, so a
//! block costs memory for what it changed and nothing else. The same nodes yield the root hash
//! of the block header and the proofs of `eth_getProof`; hashes are computed once per node.
//!
//! Keys are already hashed (the "secure trie" of Ethereum), have one fixed length, and therefore
//! a branch never holds a value. Node shapes and encoding: Ethereum yellow paper, appendix D.

use std::sync::{Arc, OnceLock};

use alloy::consensus::constants::EMPTY_ROOT_HASH;
use alloy::primitives::{B256, Bytes, keccak256};
use alloy::rlp::{BufMut, Encodable, Header};

/// Number of nibbles in a key.
const KEY_NIBBLES: usize = 64;

/// A value stored in a leaf: it knows its RLP form, which the root commits to.
pub(crate) trait TrieValue: Clone {
    /// Appends the RLP encoding of the value.
    fn encode_value(&self, out: &mut Vec<u8>);
}

/// A map from 32-byte hashed keys to values with a Merkle root.
#[derive(Clone, Debug)]
pub(crate) struct Trie<V> {
    root: Option<Arc<Node<V>>>,
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

#[derive(Debug)]
struct Node<V> {
    kind: Kind<V>,
    /// How a parent refers to this node, computed on first use. A subtree never changes its depth
    /// (nodes whose path length changes are rebuilt), so the encoding is stable.
    reference: OnceLock<Reference>,
}

#[derive(Clone, Debug)]
enum Kind<V> {
    Leaf {
        key: B256,
        value: V,
    },
    /// The nibbles `depth .. depth + len` of `key`; the other nibbles of `key` mean nothing.
    Extension {
        key: B256,
        len: usize,
        child: Arc<Node<V>>,
    },
    Branch {
        children: Box<[Option<Arc<Node<V>>>; 16]>,
    },
}

/// Nodes shorter than a hash are embedded in their parent.
#[derive(Clone, Debug)]
enum Reference {
    Hash(B256),
    Inline(Vec<u8>),
}

impl<V: TrieValue> Trie<V> {
    /// Returns the value under `key`.
    pub(crate) fn get(&self, key: &B256) -> Option<&V> {
        let mut node = self.root.as_deref()?;
        let mut depth = 0;
        loop {
            match &node.kind {
                Kind::Leaf { key: leaf, value } => return (leaf == key).then_some(value),
                Kind::Extension { key: path, len, child } => {
                    if common_nibbles(path, key, depth, depth + len) < *len {
                        return None;
                    }
                    depth += len;
                    node = child;
                }
                Kind::Branch { children } => {
                    node = child_of(children, nibble(key, depth))?;
                    depth += 1;
                }
            }
        }
    }

    /// Stores `value` under `key`.
    pub(crate) fn insert(&mut self, key: B256, value: V) {
        self.root = Some(insert(self.root.take(), 0, key, value));
    }

    /// Removes `key`, if present.
    pub(crate) fn remove(&mut self, key: &B256) {
        if self.get(key).is_some()
            && let Some(root) = self.root.take()
        {
            self.root = remove(root, 0, key);
        }
    }

    /// Shows `visit` every value, in order of the keys.
    pub(crate) fn for_each(&self, visit: &mut impl FnMut(&V)) {
        if let Some(root) = &self.root {
            root.for_each(visit);
        }
    }

    /// Returns the Merkle root.
    pub(crate) fn root_hash(&self) -> B256 {
        match &self.root {
            None => EMPTY_ROOT_HASH,
            Some(root) => match root.reference(0) {
                Reference::Hash(hash) => *hash,
                Reference::Inline(bytes) => keccak256(bytes),
            },
        }
    }

    /// Returns the RLP nodes from the root towards `key`: a proof of its value or of its absence.
    pub(crate) fn proof(&self, key: &B256) -> Vec<Bytes> {
        let mut proof = Vec::new();
        let mut next = self.root.as_deref();
        let mut depth = 0;
        while let Some(node) = next {
            // An embedded node is part of its parent's bytes and has no entry of its own.
            if depth == 0 || matches!(node.reference(depth), Reference::Hash(_)) {
                proof.push(node.encode(depth).into());
            }
            next = match &node.kind {
                Kind::Leaf { .. } => None,
                Kind::Extension { key: path, len, child } => {
                    let matches = common_nibbles(path, key, depth, depth + len) == *len;
                    depth += len;
                    matches.then_some(child.as_ref())
                }
                Kind::Branch { children } => {
                    depth += 1;
                    child_of(children, nibble(key, depth - 1))
                }
            };
        }
        proof
    }
}

impl<V: TrieValue> Node<V> {
    fn new(kind: Kind<V>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            reference: OnceLock::new(),
        })
    }

    /// Goes down at most as many levels as a key has nibbles.
    fn for_each(&self, visit: &mut impl FnMut(&V)) {
        match &self.kind {
            Kind::Leaf { value, .. } => visit(value),
            Kind::Extension { child, .. } => child.for_each(visit),
            Kind::Branch { children } => children.iter().flatten().for_each(|child| child.for_each(visit)),
        }
    }

    fn reference(&self, depth: usize) -> &Reference {
        self.reference.get_or_init(|| {
            let encoded = self.encode(depth);
            if encoded.len() < 32 {
                Reference::Inline(encoded)
            } else {
                Reference::Hash(keccak256(&encoded))
            }
        })
    }

    fn encode(&self, depth: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        match &self.kind {
            Kind::Leaf { key, value } => {
                hex_prefix(key, depth, KEY_NIBBLES, true).as_slice().encode(&mut payload);
                let mut bytes = Vec::new();
                value.encode_value(&mut bytes);
                bytes.as_slice().encode(&mut payload);
            }
            Kind::Extension { key, len, child } => {
                hex_prefix(key, depth, depth + len, false).as_slice().encode(&mut payload);
                child.reference(depth + len).encode_into(&mut payload);
            }
            Kind::Branch { children } => {
                for child in children.iter() {
                    match child {
                        Some(child) => child.reference(depth + 1).encode_into(&mut payload),
                        None => payload.put_u8(alloy::rlp::EMPTY_STRING_CODE),
                    }
                }
                payload.put_u8(alloy::rlp::EMPTY_STRING_CODE);
            }
        }
        let mut out = Vec::with_capacity(payload.len() + 4);
        Header {
            list: true,
            payload_length: payload.len(),
        }
        .encode(&mut out);
        out.extend_from_slice(&payload);
        out
    }

    /// Takes the node apart, copying its top level only when someone else still refers to it.
    fn into_kind(self: Arc<Self>) -> Kind<V> {
        match Arc::try_unwrap(self) {
            Ok(node) => node.kind,
            Err(shared) => shared.kind.clone(),
        }
    }
}

impl Reference {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hash(hash) => hash.encode(out),
            Self::Inline(bytes) => out.extend_from_slice(bytes),
        }
    }
}

fn insert<V: TrieValue>(node: Option<Arc<Node<V>>>, depth: usize, key: B256, value: V) -> Arc<Node<V>> {
    let Some(node) = node else {
        return Node::new(Kind::Leaf { key, value });
    };
    match node.into_kind() {
        Kind::Leaf { key: other, .. } if other == key => Node::new(Kind::Leaf { key, value }),
        Kind::Leaf {
            key: other,
            value: other_value,
        } => {
            let shared = common_nibbles(&other, &key, depth, KEY_NIBBLES);
            let mut children = no_children();
            put_child(
                &mut children,
                nibble(&other, depth + shared),
                Node::new(Kind::Leaf {
                    key: other,
                    value: other_value,
                }),
            );
            put_child(&mut children, nibble(&key, depth + shared), Node::new(Kind::Leaf { key, value }));
            extend(key, shared, Node::new(Kind::Branch { children }))
        }
        Kind::Extension { key: path, len, child } => {
            let shared = common_nibbles(&path, &key, depth, depth + len);
            if shared == len {
                let child = insert(Some(child), depth + len, key, value);
                return Node::new(Kind::Extension { key: path, len, child });
            }
            let mut children = no_children();
            put_child(&mut children, nibble(&path, depth + shared), extend(path, len - shared - 1, child));
            put_child(&mut children, nibble(&key, depth + shared), Node::new(Kind::Leaf { key, value }));
            extend(key, shared, Node::new(Kind::Branch { children }))
        }
        Kind::Branch { mut children } => {
            if let Some(slot) = children.get_mut(nibble(&key, depth)) {
                *slot = Some(insert(slot.take(), depth + 1, key, value));
            }
            Node::new(Kind::Branch { children })
        }
    }
}

/// Removes a key known to be present; `None` means that the subtree is now empty.
fn remove<V: TrieValue>(node: Arc<Node<V>>, depth: usize, key: &B256) -> Option<Arc<Node<V>>> {
    match node.into_kind() {
        Kind::Leaf { .. } => None,
        Kind::Extension { key: path, len, child } => {
            let child = remove(child, depth + len, key)?;
            Some(join(path, depth, len, child))
        }
        Kind::Branch { mut children } => {
            if let Some(slot) = children.get_mut(nibble(key, depth)) {
                *slot = slot.take().and_then(|child| remove(child, depth + 1, key));
            }
            let mut present = children
                .iter()
                .enumerate()
                .filter_map(|(index, child)| Some((index, child.as_ref()?)));
            let first = present.next().map(|(index, child)| (index, Arc::clone(child)));
            match (first, present.next().is_some()) {
                (None, _) => None,
                (Some((index, only)), false) => Some(join(with_nibble(B256::ZERO, depth, index), depth, 1, only)),
                (Some(_), true) => Some(Node::new(Kind::Branch { children })),
            }
        }
    }
}

/// Puts a path of `len` nibbles (taken from `path` at `depth`) above `child`, merging the two
/// where the canonical form of the trie wants one node.
fn join<V: TrieValue>(path: B256, depth: usize, len: usize, child: Arc<Node<V>>) -> Arc<Node<V>> {
    match &child.kind {
        Kind::Leaf { key, value } => Node::new(Kind::Leaf {
            key: *key,
            value: value.clone(),
        }),
        Kind::Extension { key, len: below, child } => {
            let joined = (depth..depth + len).fold(*key, |joined, at| with_nibble(joined, at, nibble(&path, at)));
            Node::new(Kind::Extension {
                key: joined,
                len: len + below,
                child: Arc::clone(child),
            })
        }
        Kind::Branch { .. } => extend(path, len, child),
    }
}

fn extend<V: TrieValue>(key: B256, len: usize, child: Arc<Node<V>>) -> Arc<Node<V>> {
    if len == 0 {
        child
    } else {
        Node::new(Kind::Extension { key, len, child })
    }
}

fn no_children<V>() -> Box<[Option<Arc<Node<V>>>; 16]> {
    Box::new([const { None }; 16])
}

fn put_child<V>(children: &mut [Option<Arc<Node<V>>>; 16], index: usize, child: Arc<Node<V>>) {
    if let Some(slot) = children.get_mut(index) {
        *slot = Some(child);
    }
}

fn child_of<V>(children: &[Option<Arc<Node<V>>>; 16], index: usize) -> Option<&Node<V>> {
    children.get(index)?.as_deref()
}

fn nibble(key: &B256, at: usize) -> usize {
    let byte = key.get(at / 2).copied().unwrap_or_default();
    usize::from(if at.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f })
}

fn with_nibble(mut key: B256, at: usize, value: usize) -> B256 {
    let value = u8::try_from(value & 0x0f).unwrap_or_default();
    if let Some(byte) = key.get_mut(at / 2) {
        *byte = if at.is_multiple_of(2) {
            (*byte & 0x0f) | (value << 4)
        } else {
            (*byte & 0xf0) | value
        };
    }
    key
}

/// Counts equal nibbles of `a` and `b` from `start` on, not beyond `end`.
fn common_nibbles(a: &B256, b: &B256, start: usize, end: usize) -> usize {
    (start..end).take_while(|&at| nibble(a, at) == nibble(b, at)).count()
}

/// Encodes the nibbles `start..end` of `key` with the leaf flag (yellow paper, appendix C).
fn hex_prefix(key: &B256, start: usize, end: usize, leaf: bool) -> Vec<u8> {
    let flag: u8 = if leaf { 0x20 } else { 0x00 };
    let mut at = start;
    let first = if (end - start).is_multiple_of(2) {
        flag
    } else {
        at += 1;
        flag | 0x10 | u8::try_from(nibble(key, start)).unwrap_or_default()
    };
    let mut out = vec![first];
    while at < end {
        out.push(u8::try_from((nibble(key, at) << 4) | nibble(key, at + 1)).unwrap_or_default());
        at += 2;
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy::consensus::proofs::storage_root;
    use alloy::primitives::U256;
    use alloy_trie::Nibbles;
    use alloy_trie::proof::verify_proof;
    use proptest::prelude::*;

    use super::*;

    impl TrieValue for U256 {
        fn encode_value(&self, out: &mut Vec<u8>) {
            self.encode(out);
        }
    }

    /// Keys that share long prefixes, so that extensions and collapses really occur.
    fn key() -> impl Strategy<Value = B256> {
        prop_oneof![
            (0u8..4, 0u8..4, any::<bool>()).prop_map(|(a, b, tail)| {
                let mut key = B256::repeat_byte(0x11);
                key[0] = a;
                key[9] = b << 4;
                key[31] = u8::from(tail);
                key
            }),
            any::<u64>().prop_map(|seed| keccak256(seed.to_be_bytes())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn root_lookup_and_proofs_match_the_reference_trie(
            steps in prop::collection::vec((key(), prop_oneof![Just(0u64), 1u64..300, any::<u64>()]), 1..60),
        ) {
            let mut trie = Trie::<U256>::default();
            let mut model = BTreeMap::<B256, U256>::new();
            let mut kept = Vec::new();
            for (key, value) in steps {
                if value == 0 {
                    trie.remove(&key);
                    model.remove(&key);
                } else {
                    trie.insert(key, U256::from(value));
                    model.insert(key, U256::from(value));
                }
                prop_assert_eq!(trie.root_hash(), storage_root(model.clone()));
                kept.push((trie.clone(), model.clone(), key));
            }
            for (trie, model, key) in kept {
                prop_assert_eq!(trie.root_hash(), storage_root(model.clone()), "older versions stay as they were");
                prop_assert_eq!(trie.get(&key), model.get(&key));
                let mut values = Vec::new();
                trie.for_each(&mut |value| values.push(*value));
                prop_assert_eq!(values, model.values().copied().collect::<Vec<_>>());
                let expected = model.get(&key).map(alloy::rlp::encode);
                let verdict = verify_proof(trie.root_hash(), Nibbles::unpack(key), expected, &trie.proof(&key));
                prop_assert!(verdict.is_ok() || model.is_empty(), "proof must verify: {:?}", verdict);
            }
        }
    }

    #[test]
    fn removing_everything_leaves_the_empty_root() {
        let mut trie = Trie::<U256>::default();
        for seed in 0u64..50 {
            trie.insert(keccak256(seed.to_be_bytes()), U256::from(seed + 1));
        }
        for seed in 0u64..50 {
            trie.remove(&keccak256(seed.to_be_bytes()));
        }
        assert_eq!(trie.root_hash(), EMPTY_ROOT_HASH);
    }
}
