//! `cipherloom demo`: an encrypted token transfer through the whole stack, told as it goes, every value checked.

use std::{path::PathBuf, time::Duration};

use alloy::{
    primitives::{Address, Bytes},
    providers::{DynProvider, PendingTransactionBuilder, Provider},
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, bail, ensure};
use cipherloom_chain::HostChain;
use cipherloom_client::{Client, ClientConfig, ClientError, KeyTrust, PermitTerms, Plaintext};
use cipherloom_contracts::HostAddresses;
use cipherloom_coprocessor::Progress;
use cipherloom_node::DevAccount;
use cipherloom_primitives::{B256, FheType, Handle, Operation, eip712::SigningDomains};
use cipherloom_service::key_file::{self, KeyFile};
use serde_json::json;
use tokio::{sync::broadcast::error::RecvError, task::JoinHandle};

use crate::{
    cli::{DemoOptions, StackOptions},
    data_dir::DataDir,
    narrator::Narrator,
    native::NativeStack,
    stack::{self, Listen, NodeSummary, Stack, accounts, network::Network},
    token::{ConfidentialToken, ConfidentialToken::ConfidentialTokenInstance, Token},
};

/// What Alice gets at first.
const MINTED: u64 = 1_000;
/// What Alice sends to Bob.
const SENT: u64 = 250;

/// More gas than all transactions of the demo use together.
const DEMO_GAS: u64 = 10_000_000;

/// More gas than the verification of a decryption uses.
const VERIFICATION_GAS: u64 = 1_000_000;

/// How long a transaction may take to be included.
const INCLUSION_LIMIT: Duration = Duration::from_secs(180);

/// What the demo found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Balances {
    alice: u64,
    bob: u64,
}

/// Runs the demo.
///
/// # Errors
/// If a step fails or a value is wrong.
pub(crate) async fn run(options: DemoOptions) -> Result<()> {
    let mut narrator = Narrator::new(options.json);
    let result = tell(&options, &mut narrator).await;
    let backend = options.stack.backend_name();
    if options.json {
        let (balances, error) = match &result {
            Ok(balances) => (json!({ "alice": balances.alice, "bob": balances.bob }), None),
            Err(error) => (serde_json::Value::Null, Some(format!("{error:#}"))),
        };
        let mut summary = json!({ "ok": result.is_ok(), "backend": backend, "balances": balances, "steps": narrator.steps() });
        if let (Some(error), Some(fields)) = (error, summary.as_object_mut()) {
            fields.insert("error".to_owned(), error.into());
        }
        println!("{summary}");
    }
    result.map(|_| ())
}

/// Where the story takes place.
struct Place<'a> {
    host: &'a HostChain,
    chain_id: u64,
    addresses: HostAddresses,
    domains: SigningDomains,
    gateway_url: String,
    accounts: &'a [DevAccount],
}

impl<'a> Place<'a> {
    fn of(stack: &'a Stack) -> Self {
        Self {
            host: stack.host(),
            chain_id: stack.chain_id(),
            addresses: *stack.addresses(),
            domains: *stack.domains(),
            gateway_url: stack.gateway_url(),
            accounts: stack.accounts(),
        }
    }

    fn of_native(stack: &'a NativeStack) -> Self {
        Self {
            host: stack.host(),
            chain_id: stack.chain_id(),
            addresses: *stack.addresses(),
            domains: stack.domains(),
            gateway_url: stack.gateway_url(),
            accounts: stack.accounts(),
        }
    }
}

async fn tell(options: &DemoOptions, narrator: &mut Narrator) -> Result<Balances> {
    if options.stack.native.native {
        return Box::pin(tell_native(options, narrator)).await;
    }
    let token = options.token_artifact.as_deref().map(Token::read).transpose()?;
    let network = Network::find(&options.stack.chain).await?;
    let data = DataDir::new(&options.stack, &network)?;
    // Without a directory of its own the demo leaves nothing behind but the keys. A chain that outlives it knows it by its signing keys, so
    // there everything is kept.
    let scratch = if options.stack.data_dir.is_none() && !network.is_external() {
        Some(tempfile::tempdir().context("cannot make a temporary directory")?)
    } else {
        None
    };
    let data = match &scratch {
        Some(scratch) => data.with_state(scratch.path()),
        None => data,
    };
    introduce(&options.stack, narrator);
    let keys = narrator
        .step(
            "open the keys (generated at the first run)",
            stack::open_keys(&data, &options.stack),
        )
        .await?;
    // Inputs are encrypted to this key and no other, whatever the gateway serves.
    let key_trust = KeyTrust::KeySet(keys.manifest().id);
    let step = match &network {
        Network::Embedded => "start the chain, the coprocessor, the KMS and the gateway",
        Network::External { .. } => "attach to the chain, and start the coprocessor, the KMS and the gateway",
    };
    let start = Stack::start(keys, network, &data, &options.stack, Listen::local(0, 0));
    let stack = narrator.step(step, Box::pin(start)).await?;
    narrator.remark(&format!(
        "chain {} at {}, gateway at {}",
        stack.chain_id(),
        stack.rpc_url(),
        stack.gateway_url()
    ));
    tell_committee(stack.committee(), narrator);
    let watcher = watch_progress(&stack, options.json);
    let place = Place::of(&stack);
    let result = Box::pin(transfer(
        &place,
        Nodes::Of(&stack),
        key_trust,
        token,
        &options.account_key_file,
        narrator,
    ))
    .await;
    if scratch.is_some() {
        stack.shutdown_and_forget().await?;
    } else {
        stack.shutdown().await;
    }
    watcher.abort();
    let balances = result?;
    narrator.say(&format!(
        "\nEvery value is right: Alice has {}, Bob has {}, and the chain has verified a total of {MINTED}.",
        balances.alice, balances.bob
    ));
    Ok(balances)
}

/// Says how much the story's secrets are worth.
fn introduce(options: &StackOptions, narrator: &mut Narrator) {
    if options.insecure_clear {
        narrator.say("INSECURE: this demo computes on plaintext. Leave out --insecure-clear for real encryption.\n");
    } else if !options.parameters().is_secure() {
        narrator.say("INSECURE: this demo uses parameters that anyone breaks, for tests.\n");
    } else {
        narrator.say("An encrypted token transfer, on TFHE with 128 bits of security. Nobody but Alice and Bob will learn an amount.\n");
    }
}

/// Tells the story on a native chain, and makes sure that all its nodes have come to the same state.
async fn tell_native(options: &DemoOptions, narrator: &mut Narrator) -> Result<Balances> {
    let token = options.token_artifact.as_deref().map(Token::read).transpose()?;
    let data = DataDir::new(&options.stack, &Network::Embedded)?;
    let scratch = match options.stack.data_dir {
        None => Some(tempfile::tempdir().context("cannot make a temporary directory")?),
        Some(_) => None,
    };
    let data = match &scratch {
        Some(scratch) => data.with_state(scratch.path()),
        None => data,
    };
    introduce(&options.stack, narrator);
    let keys = narrator
        .step(
            "open the keys (generated at the first run)",
            stack::open_keys(&data, &options.stack),
        )
        .await?;
    let key_trust = KeyTrust::KeySet(keys.manifest().id);
    let start = NativeStack::start(keys, &data.state, &options.stack, Listen::local(0, 0));
    let stack = narrator
        .step("start the validators, the KMS and the gateway", Box::pin(start))
        .await?;
    narrator.remark(&format!(
        "chain {} at {}, gateway at {}; {} validators compute every block, and there is no coprocessor",
        stack.chain_id(),
        stack.rpc_url(),
        stack.gateway_url(),
        stack.validators()
    ));
    tell_committee(stack.committee(), narrator);
    let place = Place::of_native(&stack);
    let result = Box::pin(transfer(
        &place,
        Nodes::OfNative(&stack),
        key_trust,
        token,
        &options.account_key_file,
        narrator,
    ))
    .await;
    let compared = match &result {
        Ok(_) => {
            let newest = stack.host().provider().get_block_number().await?;
            let root = narrator
                .step("compare the state of all nodes", stack.common_state_root(newest))
                .await;
            root.map(|root| narrator.remark(&format!("one state root after block {newest}: {root}")))
        }
        Err(_) => Ok(()),
    };
    Box::pin(stack.shutdown()).await;
    let balances = result?;
    compared?;
    narrator.say(&format!(
        "\nEvery value is right: Alice has {}, Bob has {}, and the chain has verified a total of {MINTED}.",
        balances.alice, balances.bob
    ));
    Ok(balances)
}

/// One of the two people of the story.
struct Person {
    signer: PrivateKeySigner,
    token: ConfidentialTokenInstance<DynProvider>,
}

impl Person {
    fn address(&self) -> Address {
        self.signer.address()
    }
}

async fn transfer(
    place: &Place<'_>,
    nodes: Nodes<'_>,
    key_trust: KeyTrust,
    token: Option<Token>,
    key_files: &[PathBuf],
    narrator: &mut Narrator,
) -> Result<Balances> {
    let config = ClientConfig::new(place.addresses, place.domains).trusting(key_trust);
    let client = Client::over(&place.gateway_url, place.host.clone(), config).await?;

    let [alice, bob] = people(place, key_files)?;
    accounts::expect_funds(place.host, alice.address(), DEMO_GAS, "the demo").await?;
    let token = token.map_or_else(|| Token::built_in(place.chain_id, &place.addresses), Ok)?;
    let creation = token.creation_code(&place.addresses)?;
    let token = narrator
        .step("deploy the confidential token", deploy(place, &alice, creation))
        .await?;
    narrator.remark(&format!("token at {token}"));
    let (alice, bob) = (person(place, alice, token), person(place, bob, token));
    // Anyone may have the chain verify a decryption; Bob only needs ether for that.
    let bob_pays = accounts::can_pay(place.host, bob.address(), VERIFICATION_GAS).await?;
    let anyone = if bob_pays { &bob } else { &alice };

    narrator.step(&format!("mint {MINTED} tokens for Alice"), mint(&alice)).await?;
    let input = narrator
        .step(
            "encrypt the amount of the transfer, with a zero-knowledge proof",
            encrypt(&client, &alice),
        )
        .await?;
    narrator.remark(&format!("handle {}, input proof of {} bytes", input.handle, input.proof.len()));
    let receipt = narrator
        .step("send the transfer to the chain", send(&alice, bob.address(), &input))
        .await?;
    narrator.remark(&format!(
        "transaction {}, {} gas; what it moves is not on the chain",
        receipt.transaction_hash, receipt.gas_used
    ));

    let bobs = narrator.step("let Bob decrypt his balance", balance(&client, &bob)).await?;
    narrator.remark(&format!("Bob reads {bobs}"));
    let alices = narrator.step("let Alice decrypt hers", balance(&client, &alice)).await?;
    narrator.remark(&format!("Alice reads {alices}"));
    narrator
        .step("refuse Alice the balance of Bob", expect_refusal(&client, &alice, &bob))
        .await?;

    let public = narrator
        .step("make the total supply public and decrypt it", publish(&client, &alice))
        .await?;
    narrator.remark(&format!("signed by the KMS: {}", public.total));
    let total = narrator
        .step("verify the KMS's signature on the chain", verify(anyone, &public))
        .await?;

    if let Some(last) = nodes.stop_some().await {
        let again = narrator
            .step(&format!("stop {last}, and let Bob decrypt without"), balance(&client, &bob))
            .await?;
        narrator.remark(&format!("Bob reads {again}"));
        ensure!(again == bobs, "without {last} Bob reads {again} instead of {bobs}");
    }

    let balances = Balances { alice: alices, bob: bobs };
    ensure!(
        balances
            == Balances {
                alice: MINTED - SENT,
                bob: SENT
            },
        "wrong balances: {balances:?}"
    );
    ensure!(total == MINTED, "the chain verified a total of {total} instead of {MINTED}");
    Ok(balances)
}

/// How many nodes of a committee may be corrupt.
fn corrupt(nodes: &[NodeSummary]) -> usize {
    nodes.len().saturating_sub(1) / 3
}

/// Says what a committee is made of, if there is one.
fn tell_committee(nodes: &[NodeSummary], narrator: &mut Narrator) {
    let (count, corrupt) = (nodes.len(), corrupt(nodes));
    if count > 0 {
        narrator.remark(&format!(
            "{count} KMS nodes have a share of the key each, of which {corrupt} may lie or be silent: {} answer users, {} sign for contracts",
            count - corrupt,
            corrupt + 1
        ));
    }
}

/// Whose committee decrypts, if there is one.
#[derive(Clone, Copy)]
enum Nodes<'a> {
    /// That of a stack with a coprocessor.
    Of(&'a Stack),
    /// That of a native chain.
    OfNative(&'a NativeStack),
}

impl Nodes<'_> {
    /// Stops as many nodes of the committee as may be silent, and names them; nothing if there is no committee.
    async fn stop_some(self) -> Option<String> {
        let nodes = match self {
            Self::Of(stack) => stack.committee(),
            Self::OfNative(stack) => stack.committee(),
        };
        let (_, stopped) = nodes.split_at_checked(nodes.len().saturating_sub(corrupt(nodes)))?;
        for node in stopped {
            match self {
                Self::Of(stack) => stack.stop_kms_node(node.party).await,
                Self::OfNative(stack) => stack.stop_kms_node(node.party).await,
            }
        }
        let names: Vec<String> = stopped.iter().map(|node| node.party.to_string()).collect();
        match names.as_slice() {
            [] => None,
            [one] => Some(format!("KMS node {one}")),
            _ => Some(format!("KMS nodes {}", names.join(", "))),
        }
    }
}

/// Returns the keys of Alice and Bob: those in files, or public ones. Alice pays; Bob needs nothing, so that a fresh key does for him.
fn people(place: &Place<'_>, key_files: &[PathBuf]) -> Result<[PrivateKeySigner; 2]> {
    let read = |file: &PathBuf| key_file::read(file, KeyFile::ACCOUNT);
    match (key_files, place.accounts) {
        ([alice], _) => Ok([read(alice)?, PrivateKeySigner::random()]),
        ([alice, bob], _) => Ok([read(alice)?, read(bob)?]),
        ([], [alice, bob, ..]) => Ok([accounts::signer(alice)?, accounts::signer(bob)?]),
        ([], [alice]) => Ok([accounts::signer(alice)?, PrivateKeySigner::random()]),
        ([], []) => bail!(
            "nobody can pay for transactions on chain {}: none of the accounts of the public mnemonics has ether there; name a key of an account \
             that has some with --account-key-file",
            place.chain_id
        ),
        (more, _) => bail!("the demo has two people, and {} files with keys are given", more.len()),
    }
}

fn person(place: &Place<'_>, signer: PrivateKeySigner, token: Address) -> Person {
    let token = ConfidentialToken::new(token, accounts::wallet(place.host, &signer));
    Person { signer, token }
}

async fn deploy(place: &Place<'_>, signer: &PrivateKeySigner, bytecode: Bytes) -> Result<Address> {
    let request = TransactionRequest::default().from(signer.address());
    let request = alloy::network::TransactionBuilder::with_deploy_code(request, bytecode);
    let receipt = included(accounts::wallet(place.host, signer).send_transaction(request).await?).await?;
    receipt.contract_address.context("the deployment created no contract")
}

async fn mint(alice: &Person) -> Result<TransactionReceipt> {
    included(alice.token.mint(alice.address(), MINTED).send().await?).await
}

/// An encrypted amount as the token's `transfer` takes it.
struct Amount {
    handle: Handle,
    proof: Bytes,
}

async fn encrypt(client: &Client, alice: &Person) -> Result<Amount> {
    let input = client
        .encrypt(*alice.token.address(), alice.address())
        .add64(SENT)
        .encrypt()
        .await?;
    let handle = *input.handles.first().context("the input has no handle")?;
    Ok(Amount {
        handle,
        proof: input.input_proof,
    })
}

async fn send(alice: &Person, to: Address, amount: &Amount) -> Result<TransactionReceipt> {
    included(
        alice
            .token
            .transfer(to, amount.handle.as_b256(), amount.proof.clone())
            .send()
            .await?,
    )
    .await
}

/// Waits for a transaction, and fails if it failed.
async fn included(pending: PendingTransactionBuilder<alloy::network::Ethereum>) -> Result<TransactionReceipt> {
    let receipt = pending.with_timeout(Some(INCLUSION_LIMIT)).get_receipt().await?;
    ensure!(receipt.status(), "transaction {} was reverted", receipt.transaction_hash);
    Ok(receipt)
}

async fn balance_handle(person: &Person) -> Result<Handle> {
    let handle = person.token.balanceOf(person.address()).call().await?;
    ensure!(handle != B256::ZERO, "{} has no balance", person.address());
    Ok(Handle::try_from(handle)?)
}

async fn balance(client: &Client, person: &Person) -> Result<u64> {
    let token = *person.token.address();
    let permit = client.permit(&person.signer, PermitTerms::starting_now(vec![token], 1)).await?;
    let values = client.user_decrypt(&[(balance_handle(person).await?, token)], &permit).await?;
    number(values.first().map(|(_, value)| value))
}

/// Asks for somebody else's balance, which must be refused for the right reason.
async fn expect_refusal(client: &Client, curious: &Person, owner: &Person) -> Result<()> {
    let token = *curious.token.address();
    let permit = client.permit(&curious.signer, PermitTerms::starting_now(vec![token], 1)).await?;
    match client.user_decrypt(&[(balance_handle(owner).await?, token)], &permit).await {
        Err(ClientError::Server { label, .. }) if label == "not_allowed_on_host_acl" => Ok(()),
        Err(other) => Err(other).context("the refusal should have named the access list"),
        Ok(_) => bail!("the KMS decrypted a balance for somebody who may not read it"),
    }
}

/// A total supply that the KMS has signed.
struct Published {
    total: u64,
    proof: Bytes,
}

async fn publish(client: &Client, alice: &Person) -> Result<Published> {
    included(alice.token.makeTotalSupplyPublic().send().await?).await?;
    let handle = Handle::try_from(alice.token.publishedTotalSupply().call().await?)?;
    let decryption = client.public_decrypt(&[handle]).await?;
    Ok(Published {
        total: number(decryption.values.first().map(|(_, value)| value))?,
        proof: decryption.proof,
    })
}

async fn verify(anyone: &Person, public: &Published) -> Result<u64> {
    included(anyone.token.verifyTotalSupply(public.total, public.proof.clone()).send().await?).await?;
    Ok(anyone.token.verifiedTotalSupply().call().await?)
}

fn number(value: Option<&Plaintext>) -> Result<u64> {
    let value = value.context("the answer has no value")?;
    u64::try_from(value.to_u256()).context("the value does not fit 64 bits")
}

/// Prints what the coprocessor computes, as it does.
fn watch_progress(stack: &Stack, quiet: bool) -> JoinHandle<()> {
    let mut progress = stack.coprocessor().progress();
    tokio::spawn(async move {
        loop {
            match progress.recv().await {
                Ok(progress) if !quiet => {
                    if let Some(line) = describe(&progress) {
                        println!("           {line}");
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    })
}

/// Says what the coprocessor has just done, where that is worth a line.
fn describe(progress: &Progress) -> Option<String> {
    match progress {
        Progress::Started {
            transaction,
            operations,
            bootstraps,
        } => Some(format!(
            "computing {} for transaction {transaction}: {bootstraps} bootstraps",
            name_all(operations)
        )),
        Progress::Evaluating { done, of, .. } => Some(format!("{done} of {of} bootstraps")),
        Progress::Transaction {
            outputs,
            failures: 0,
            seconds,
            ..
        } => Some(format!("computed {outputs} value(s) in {seconds:.2} s")),
        Progress::Transaction { failures, .. } => Some(format!("{failures} value(s) cannot be computed")),
        Progress::Input { values, seconds } => Some(format!("verified the proof of an input with {values} value(s) in {seconds:.2} s")),
        _ => None,
    }
}

/// Names operations in their order, each type once. Public values are not worth a mention.
fn name_all(operations: &[(Operation, FheType)]) -> String {
    let secret = operations.iter().filter(|(operation, _)| *operation != Operation::TrivialEncrypt);
    let mut text = String::new();
    let mut last = None;
    for (operation, ty) in secret {
        match last {
            None => {}
            Some(before) if before == *ty => text += ", ",
            Some(before) => text += &format!(" on {before}, "),
        }
        text += &operation.to_string();
        last = Some(*ty);
    }
    match last {
        Some(ty) => format!("{text} on {ty}"),
        None => "public values".to_owned(),
    }
}
