//! A member of the old committee: it learns the mask of its shares and publishes them masked.

use std::ops::Deref;

use zeroize::Zeroizing;

use crate::{
    ciphertext::KeyKind,
    committee::{PartyId, PartySet},
    correction,
    error::ThresholdError,
    reshare::{
        Message, Outgoing, Plan, Recipient,
        message::{Body, is_whole},
    },
    ring::Element,
    share::KeyShare,
};

/// One old party's side of a resharing. It sends one message, after which it is done; its share stays valid until the new committee has finished.
///
/// Plan and share are references, counted or not.
pub struct OldMember<P, S> {
    plan: P,
    share: S,
    masks: Vec<(PartyId, Zeroizing<Vec<Element>>)>,
    wrong: PartySet,
    sent: bool,
}

impl<P: Deref<Target = Plan>, S: Deref<Target = KeyShare>> OldMember<P, S> {
    /// Begins a resharing of this share.
    ///
    /// # Errors
    /// [`ThresholdError::OtherScope`] if the plan is to replace other shares, [`ThresholdError::SecretKey`] if the dimensions differ.
    pub fn new(plan: P, share: S) -> Result<Self, ThresholdError> {
        if *share.scope() != plan.from {
            return Err(ThresholdError::OtherScope("key, context, epoch or committee"));
        }
        if share.dimensions() != plan.dimensions {
            return Err(ThresholdError::SecretKey("its dimension is not the plan's"));
        }
        Ok(Self {
            plan,
            share,
            masks: Vec::new(),
            wrong: PartySet::EMPTY,
            sent: false,
        })
    }

    /// Takes a message of a member of the new committee. Once all of them have sent theirs, the masked shares come out.
    ///
    /// # Errors
    /// [`ThresholdError::UnexpectedMessage`] for anything but a mask, which is ignored, and what [`Self::close`] says.
    pub fn receive(&mut self, from: PartyId, message: Message) -> Result<Vec<Outgoing>, ThresholdError> {
        let Body::MaskShare(elements) = message.0 else {
            return Err(ThresholdError::UnexpectedMessage("old members get masks only"));
        };
        if !is_whole(&elements, self.plan.dimensions) {
            return Err(ThresholdError::UnexpectedMessage("the mask has another length"));
        }
        let from = self.plan.to.committee.size().party(from.number().into())?;
        if self.sent || self.masks.iter().any(|(party, _)| *party == from) {
            return Err(ThresholdError::UnexpectedMessage("the mask is there already"));
        }
        self.masks.push((from, elements));
        if self.masks.len() < usize::from(self.plan.to.committee.size().parties()) {
            return Ok(Vec::new());
        }
        self.close()
    }

    /// Goes on with the masks that are there, once enough time has passed.
    ///
    /// # Errors
    /// [`ThresholdError::NotEnoughShares`] or [`ThresholdError::TooManyWrongShares`] if they do not determine the mask.
    pub fn close(&mut self) -> Result<Vec<Outgoing>, ThresholdError> {
        if self.sent {
            return Ok(Vec::new());
        }
        let vectors: Vec<(PartyId, &[Element])> = self.masks.iter().map(|(party, mask)| (*party, mask.as_slice())).collect();
        let opened = correction::open(self.plan.to.committee.size(), &vectors)?;
        self.wrong = opened.wrong;
        let own = self
            .share
            .vector(KeyKind::Squashed)
            .iter()
            .chain(self.share.vector(KeyKind::Compressed));
        let masked = own.zip(opened.values.iter()).map(|(share, mask)| *share - *mask).collect();
        self.masks.clear();
        self.sent = true;
        Ok(vec![Outgoing {
            to: Recipient::AllNew,
            message: Message(Body::Masked(masked)),
        }])
    }

    /// Returns which members of the new committee sent wrong masks.
    #[must_use]
    pub const fn wrong(&self) -> PartySet {
        self.wrong
    }
}
