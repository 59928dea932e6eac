//! Between documents of ceremonies and messages.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cipherloom_ceremony::{Delivered, Letter, MAX_LETTER_BYTES};
use cipherloom_primitives::{Address, B256};
use cipherloom_rpc::cipherloom::ceremony::v1 as wire;
use serde::{Serialize, de::DeserializeOwned};

/// The longest document but records and proposals, which have limits of their own.
const MAX_DOCUMENT_BYTES: usize = 8 << 20;

pub(super) fn document(document: &impl Serialize) -> Result<Bytes> {
    Ok(serde_json::to_vec(document).context("a document cannot be written")?.into())
}

pub(super) fn read_document<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    anyhow::ensure!(
        bytes.len() <= MAX_DOCUMENT_BYTES,
        "the {what} has {} bytes; at most {MAX_DOCUMENT_BYTES} are read",
        bytes.len()
    );
    serde_json::from_slice(bytes).with_context(|| format!("the {what} is malformed"))
}

pub(super) fn word(word: B256) -> Bytes {
    Bytes::copy_from_slice(word.as_slice())
}

pub(super) fn read_word(what: &str, bytes: &[u8]) -> Result<B256> {
    B256::try_from(bytes).map_err(|_| anyhow::anyhow!("the {what} has {} bytes, not 32", bytes.len()))
}

fn read_address(what: &str, bytes: &[u8]) -> Result<Address> {
    Address::try_from(bytes).map_err(|_| anyhow::anyhow!("the {what} has {} bytes, not 20", bytes.len()))
}

pub(super) fn letter(letter: &Letter) -> wire::Letter {
    wire::Letter {
        session: word(letter.session),
        from: Bytes::copy_from_slice(letter.from.as_slice()),
        to: Bytes::copy_from_slice(letter.to.as_slice()),
        number: letter.number,
        body: Bytes::copy_from_slice(&letter.body),
        signature: Bytes::copy_from_slice(&letter.signature),
    }
}

pub(super) fn read_letter(letter: wire::Letter) -> Result<Letter> {
    anyhow::ensure!(
        letter.body.len() <= MAX_LETTER_BYTES && letter.signature.len() <= 128,
        "a letter is too long"
    );
    Ok(Letter {
        session: read_word("ceremony of a letter", &letter.session)?,
        from: read_address("sender of a letter", &letter.from)?,
        to: read_address("reader of a letter", &letter.to)?,
        number: letter.number,
        body: letter.body.into(),
        signature: letter.signature.into(),
    })
}

pub(super) fn read_letters(letters: Vec<wire::Letter>) -> Result<Vec<Letter>> {
    letters.into_iter().map(read_letter).collect()
}

pub(super) fn delivered(delivered: &Delivered) -> wire::LettersResponse {
    wire::LettersResponse {
        letters: delivered.letters.iter().map(letter).collect(),
        problems: delivered.problems.iter().take(64).cloned().collect(),
        finished: delivered.finished,
    }
}

pub(super) fn read_delivered(answer: wire::LettersResponse) -> Result<Delivered> {
    Ok(Delivered {
        letters: read_letters(answer.letters)?,
        problems: answer.problems,
        finished: answer.finished,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_survive_being_messages_and_malformed_ones_are_refused() {
        let sent = Letter {
            session: B256::repeat_byte(1),
            from: Address::repeat_byte(2),
            to: Address::repeat_byte(3),
            number: 7,
            body: vec![4; 100],
            signature: vec![5; 65],
        };
        assert_eq!(read_letter(letter(&sent)).unwrap(), sent);
        for (what, change) in [
            ("session", (|letter| letter.session = Bytes::new()) as fn(&mut wire::Letter)),
            ("sender", |letter| letter.from = Bytes::from_static(&[1; 21])),
            ("reader", |letter| letter.to = Bytes::from_static(&[1; 19])),
            ("body", |letter| letter.body = vec![0; MAX_LETTER_BYTES + 1].into()),
            ("signature", |letter| letter.signature = vec![0; 200].into()),
        ] {
            let mut changed = letter(&sent);
            change(&mut changed);
            assert!(read_letter(changed).is_err(), "{what}");
        }
    }
}
