//! Every kind of permit against everything that can be wrong with it.

use crate::support::{CHAIN_ID, CONTRACT, Keys, NOW, World, context_id, epoch_id, key, old_context_id, old_epoch_id};
use cipherloom_kms::KmsError;
use cipherloom_primitives::{
    Address, B256, Bytes, FheType, Handle, U256,
    acl::ANY_CONTRACT,
    decryption::{DecryptionPermit, RequestError, RequestedValue, UserDecryptionRequest},
    eip712::SigningDomains,
};
use cipherloom_signcryption::{AnswerContext, node_address, open};

const DAY: u64 = 86_400;

/// The kinds of permits, and who signs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Classic,
    Delegated,
    UnifiedOwn,
    UnifiedAny,
    UnifiedDelegated,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Classic,
        Self::Delegated,
        Self::UnifiedOwn,
        Self::UnifiedAny,
        Self::UnifiedDelegated,
    ];

    const fn is_delegated(self) -> bool {
        matches!(self, Self::Delegated | Self::UnifiedDelegated)
    }

    const fn is_unified(self) -> bool {
        matches!(self, Self::UnifiedOwn | Self::UnifiedAny | Self::UnifiedDelegated)
    }

    const fn lists_contracts(self) -> bool {
        !matches!(self, Self::UnifiedAny)
    }
}

/// A world in which one value may be read under a permit of this kind.
struct Case {
    world: World,
    kind: Kind,
    handle: Handle,
    owner: Address,
}

impl Case {
    fn new(kind: Kind) -> Self {
        let world = World::new(Keys::Clear);
        let handle = world.store(1, FheType::Uint64, U256::from(42));
        let owner = if kind.is_delegated() {
            node_address(&key(0x55))
        } else {
            world.user_address()
        };
        {
            let mut chain = world.chain.lock().unwrap();
            chain.allowed.extend([(handle, owner), (handle, CONTRACT)]);
            if kind.is_delegated() {
                chain.delegated.insert((owner, world.user_address(), CONTRACT), NOW + DAY);
            }
        }
        Self {
            world,
            kind,
            handle,
            owner,
        }
    }

    fn unsigned(&self) -> UserDecryptionRequest {
        let contracts = if self.kind.lists_contracts() { vec![CONTRACT] } else { Vec::new() };
        if self.kind.is_unified() {
            return self
                .world
                .unified_with(&[self.handle], self.owner, |permit| permit.allowed_contracts = contracts);
        }
        let delegator = self.kind.is_delegated().then_some(self.owner);
        self.world.unsigned_with(&[self.handle], |permit| permit.delegator = delegator)
    }

    fn signed(&self) -> UserDecryptionRequest {
        self.world.sign(self.unsigned())
    }

    /// Signs after a change.
    fn with(&self, change: impl FnOnce(&mut UserDecryptionRequest)) -> UserDecryptionRequest {
        let mut request = self.unsigned();
        change(&mut request);
        self.world.sign(request)
    }

    async fn answered(&self, request: UserDecryptionRequest) {
        let share = self.world.node.user_decrypt(request.clone()).await.unwrap_or_else(|error| {
            panic!("{:?}: {error}", self.kind);
        });
        let context = AnswerContext {
            domains: &self.world.domains,
            public_key: self.world.user_keys.public_key(),
            user: request.user,
            extra_data: &request.extra_data,
        };
        assert_eq!(share.extra_data, request.extra_data);
        let values = open(
            &context,
            &request.handles(),
            &share,
            &self.world.user_keys,
            self.world.node.address(),
        )
        .unwrap();
        assert_eq!(values, vec![U256::from(42); request.values.len()], "{:?}", self.kind);
    }

    async fn refused(&self, request: UserDecryptionRequest) -> KmsError {
        let before = self.world.node.audit().head();
        let error = self
            .world
            .node
            .user_decrypt(request)
            .await
            .expect_err("the request must be refused");
        assert_eq!(self.world.node.audit().head(), before, "{:?}", self.kind);
        error
    }
}

fn set_window(request: &mut UserDecryptionRequest, start: u64, days: u64) {
    match &mut request.permit {
        DecryptionPermit::Classic(permit) => (permit.start_timestamp, permit.duration_days) = (start, days),
        DecryptionPermit::Unified(permit) => (permit.start_timestamp, permit.duration_seconds) = (start, days * DAY),
    }
}

fn set_contracts(request: &mut UserDecryptionRequest, contracts: Vec<Address>) {
    match &mut request.permit {
        DecryptionPermit::Classic(permit) => permit.contracts = contracts,
        DecryptionPermit::Unified(permit) => permit.allowed_contracts = contracts,
    }
}

#[tokio::test]
async fn every_kind_of_permit_opens_what_it_is_for() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        case.answered(case.signed()).await;
        case.answered(case.with(|request| set_window(request, NOW - 365 * DAY, 365))).await;
        case.answered(case.with(|request| set_window(request, NOW, 1))).await;
    }
}

#[tokio::test]
async fn signatures_of_others_or_over_something_else_are_refused() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        let world = &case.world;
        let foreign = SigningDomains {
            host_chain_id: 1,
            ..world.domains
        };
        let mut attempts = vec![
            world.sign_with(case.unsigned(), &key(0x66), &world.domains),
            // The owner cannot sign for a delegate either.
            world.sign_with(case.unsigned(), &key(0x55), &world.domains),
            world.sign_with(case.unsigned(), &world.user, &foreign),
            UserDecryptionRequest {
                signature: Bytes::new(),
                ..case.signed()
            },
        ];
        for change in [
            |request: &mut UserDecryptionRequest| set_window(request, NOW - 9, 1),
            |request: &mut UserDecryptionRequest| set_window(request, NOW - 10, 2),
            |request: &mut UserDecryptionRequest| set_contracts(request, vec![CONTRACT, Address::ZERO]),
            |request: &mut UserDecryptionRequest| request.extra_data = Bytes::new(),
        ] {
            let mut tampered = case.signed();
            change(&mut tampered);
            attempts.push(tampered);
        }
        let thief = cipherloom_signcryption::UserKeypair::generate().unwrap();
        attempts.push(UserDecryptionRequest {
            public_key: thief.public_key().blob().to_vec().into(),
            ..case.signed()
        });
        for (index, attempt) in attempts.into_iter().enumerate() {
            let error = case.refused(attempt).await;
            assert!(matches!(error, KmsError::PermitSignature { .. }), "{kind:?} {index}: {error}");
            assert_eq!((error.label(), error.field()), ("validation_failed", Some("signature")));
        }
    }
}

#[tokio::test]
async fn permits_are_no_other_kind_of_permit() {
    let classic = Case::new(Kind::Classic);
    let unified = classic.world.unified_with(&[classic.handle], classic.owner, |permit| {
        permit.allowed_contracts = vec![CONTRACT];
        permit.duration_seconds = DAY;
    });
    let signature = classic.signed().signature;
    let error = classic.refused(UserDecryptionRequest { signature, ..unified }).await;
    assert!(matches!(error, KmsError::PermitSignature { .. }), "{error}");

    // A unified permit names its user, so a key that two accounts share signs for one of them only.
    let case = Case::new(Kind::UnifiedOwn);
    let other = Address::repeat_byte(0x77);
    let mut taken = case.signed();
    taken.user = other;
    taken.values[0].owner = other;
    case.world.chain.lock().unwrap().allowed.insert((case.handle, other));
    let error = case.refused(taken).await;
    assert!(matches!(error, KmsError::PermitSignature { signer } if signer == other), "{error}");
}

#[tokio::test]
async fn permits_outside_their_window_or_limits_are_refused() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        let expired = case.refused(case.with(|request| set_window(request, NOW - 2 * DAY, 1))).await;
        assert!(
            matches!(expired, KmsError::Request(RequestError::Expired { .. })),
            "{kind:?}: {expired}"
        );
        let future = case.refused(case.with(|request| set_window(request, NOW + 1, 1))).await;
        assert!(
            matches!(future, KmsError::Request(RequestError::NotYetValid { .. })),
            "{kind:?}: {future}"
        );
        for days in [0, 366] {
            let error = case.refused(case.with(|request| set_window(request, NOW, days))).await;
            let as_expected = matches!(
                error,
                KmsError::Request(RequestError::Duration(_) | RequestError::DurationSeconds(_))
            );
            assert!(as_expected, "{kind:?}: {error}");
        }
        let many = case.refused(case.with(|request| set_contracts(request, vec![CONTRACT; 11]))).await;
        let as_expected = matches!(
            many,
            KmsError::Request(RequestError::ContractCount(11) | RequestError::AllowedContractCount(11))
        );
        assert!(as_expected, "{kind:?}: {many}");
        let bits = case.with(|request| request.values = vec![request.values[0]; 33]);
        assert!(matches!(
            case.refused(bits).await,
            KmsError::Request(RequestError::TooManyBits { bits: 2112 })
        ));
    }
}

#[tokio::test]
async fn contracts_that_are_not_listed_and_contracts_that_ask_for_themselves_are_refused() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        let other = case.with(|request| set_contracts(request, vec![Address::ZERO]));
        let error = case.refused(other).await;
        assert!(
            matches!(error, KmsError::Request(RequestError::ContractNotInPermit(CONTRACT))),
            "{kind:?}: {error}"
        );
        let user = case.world.user_address();
        for own in [user, case.owner] {
            let own = case.with(|request| {
                set_contracts(request, vec![own]);
                request.values[0].contract_address = own;
            });
            let error = case.refused(own).await;
            assert!(
                matches!(error, KmsError::Request(RequestError::UserIsContract(_))),
                "{kind:?}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn values_that_owner_or_contract_may_not_use_are_refused() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        for account in [case.owner, CONTRACT] {
            case.world.chain.lock().unwrap().allowed.remove(&(case.handle, account));
            let error = case.refused(case.signed()).await;
            assert!(
                matches!(error, KmsError::NotAllowed { account: of, .. } if of == account),
                "{kind:?}: {error}"
            );
            assert_eq!(error.label(), "not_allowed_on_host_acl");
            case.world.chain.lock().unwrap().allowed.insert((case.handle, account));
        }
        case.answered(case.signed()).await;
    }
}

#[tokio::test]
async fn delegations_count_until_they_end_for_one_contract_or_for_any() {
    for kind in [Kind::Delegated, Kind::UnifiedDelegated] {
        let case = Case::new(kind);
        let delegate = case.world.user_address();
        let delegated = |contract, until| {
            let mut chain = case.world.chain.lock().unwrap();
            chain.delegated.clear();
            chain.delegated.insert((case.owner, delegate, contract), until);
        };
        for contract in [CONTRACT, ANY_CONTRACT] {
            delegated(contract, NOW + 1);
            case.answered(case.signed()).await;
            delegated(contract, NOW);
            let error = case.refused(case.signed()).await;
            assert!(matches!(error, KmsError::NotDelegated { .. }), "{kind:?}: {error}");
        }
        // The chain's clock may be ahead of ours.
        delegated(CONTRACT, NOW + 100);
        case.world.chain.lock().unwrap().block_time = NOW + 100;
        assert!(matches!(case.refused(case.signed()).await, KmsError::NotDelegated { .. }));
        case.world.chain.lock().unwrap().block_time = NOW;
        delegated(Address::ZERO, NOW + DAY);
        let error = case.refused(case.signed()).await;
        assert!(matches!(error, KmsError::NotDelegated { .. }), "{kind:?}: {error}");
    }
}

#[tokio::test]
async fn whoever_has_rights_at_stake_can_invalidate_permits() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        let mut accounts = vec![case.world.user_address(), case.owner];
        accounts.dedup();
        for account in accounts {
            let set = |before| {
                let mut chain = case.world.chain.lock().unwrap();
                chain.invalidated_before.insert(account, before);
            };
            set(NOW - 9);
            let error = case.refused(case.signed()).await;
            assert!(
                matches!(error, KmsError::PermitInvalidated { account: by, .. } if by == account),
                "{kind:?}: {error}"
            );
            assert_eq!(error.label(), "validation_failed");
            set(NOW - 10);
            case.answered(case.signed()).await;
        }
    }
}

#[tokio::test]
async fn handles_of_other_chains_are_refused() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        let foreign = Handle::computed(B256::repeat_byte(1), CHAIN_ID + 1, FheType::Uint64);
        let error = case.refused(case.with(|request| request.values[0].handle = foreign)).await;
        assert!(
            matches!(error, KmsError::Request(RequestError::WrongChain { .. })),
            "{kind:?}: {error}"
        );
    }
}

#[tokio::test]
async fn contexts_count_while_the_chain_has_them_and_this_node_is_in_them() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        let version_1 = |context: B256| Bytes::from([&[1], context.as_slice()].concat());
        let version_2 = |context: B256, epoch: B256| Bytes::from([&[2], context.as_slice(), epoch.as_slice()].concat());
        for extra_data in [
            Bytes::new(),
            Bytes::from_static(&[0]),
            version_1(context_id()),
            version_2(context_id(), epoch_id()),
            version_1(old_context_id()),
            version_2(old_context_id(), old_epoch_id()),
        ] {
            case.answered(case.with(|request| request.extra_data = extra_data)).await;
        }
        let crossed = case.with(|request| request.extra_data = version_2(context_id(), old_epoch_id()));
        assert!(matches!(case.refused(crossed).await, KmsError::Epoch { .. }), "{kind:?}");

        let old = case.with(|request| request.extra_data = version_1(old_context_id()));
        case.world.chain.lock().unwrap().contexts[0].1 = vec![Address::ZERO];
        let error = case.refused(old.clone()).await;
        assert!(
            matches!(error, KmsError::NotRegistered { context: Some(context), .. } if context == old_context_id()),
            "{kind:?}: {error}"
        );
        case.world.chain.lock().unwrap().contexts.remove(0);
        assert!(matches!(case.refused(old).await, KmsError::Context { .. }), "{kind:?}");
    }
}

#[tokio::test]
async fn wallets_that_are_contracts_sign_every_kind_of_permit() {
    for kind in Kind::ALL {
        let case = Case::new(kind);
        let wallet = Address::repeat_byte(0xa1);
        let mut request = case.unsigned();
        request.user = wallet;
        if !kind.is_delegated() {
            request.values[0].owner = wallet;
        }
        let owner = request.values[0].owner;
        let digest = request.digest(&case.world.domains);
        for signature in [
            Bytes::new(),
            Bytes::from_static(b"whatever the wallet likes"),
            Bytes::from(vec![7; 4096]),
        ] {
            request.signature = signature.clone();
            {
                let mut chain = case.world.chain.lock().unwrap();
                chain.wallets.insert(wallet, (digest, signature));
                chain.allowed.insert((case.handle, owner));
                if kind.is_delegated() {
                    chain.delegated.insert((owner, wallet, CONTRACT), NOW + DAY);
                }
            }
            case.answered(request.clone()).await;
            let longer = UserDecryptionRequest {
                signature: [request.signature.as_ref(), &[1]].concat().into(),
                ..request.clone()
            };
            let error = case.refused(longer).await;
            assert!(
                matches!(
                    error,
                    KmsError::PermitSignature { .. } | KmsError::Request(RequestError::SignatureLength(4097))
                ),
                "{kind:?}: {error}"
            );
        }
        // The wallet recognised another digest.
        let mut other = request.clone();
        set_window(&mut other, NOW - 3, 1);
        assert!(matches!(case.refused(other).await, KmsError::PermitSignature { .. }), "{kind:?}");
        // A wallet that has invalidated its permits is nobody special.
        case.world.chain.lock().unwrap().invalidated_before.insert(wallet, NOW);
        assert!(
            matches!(case.refused(request).await, KmsError::PermitInvalidated { .. }),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn one_unified_permit_reads_values_of_several_owners_and_one_forbidden_value_refuses_all() {
    let case = Case::new(Kind::UnifiedDelegated);
    let own = case.world.store(2, FheType::Uint64, U256::from(42));
    case.world.allow(own);
    let value = |handle, owner| RequestedValue {
        handle,
        contract_address: CONTRACT,
        owner,
    };
    let user = case.world.user_address();
    let both = case.with(|request| request.values = vec![value(own, user), value(case.handle, case.owner)]);
    case.answered(both).await;
    let line = case.world.audit_text().lines().last().unwrap().to_owned();
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&record["kind"], record["owners"].as_array().unwrap().len()),
        (&"delegated".into(), 1)
    );

    // Naming another owner does not help with one's own value, nor the user with the owner's.
    for crossed in [value(own, case.owner), value(case.handle, user)] {
        let request = case.with(|request| request.values = vec![value(own, user), crossed]);
        assert!(matches!(case.refused(request).await, KmsError::NotAllowed { .. }));
    }
}
