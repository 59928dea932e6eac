//! An encrypted token transfer on a running stack, and the balances afterwards.
//!
//! ```text
//! $ cipherloom dev --json > stack.json &
//! $ cargo run --release --example transfer -- stack.json
//! ```
//!
//! It deploys the token of `examples/confidential-token` in the name of the stack's first account (Alice), mints, encrypts an amount, sends it to the
//! second account (Bob), lets both read their balances, and publishes the total supply with a proof that the contract checks. With `--insecure-clear`
//! behind `cipherloom dev` the same takes no time and hides nothing.

#![expect(clippy::print_stdout, reason = "this is what the program is for")]

use std::{error::Error, path::PathBuf, time::Instant};

use alloy::{
    network::{EthereumWallet, TransactionBuilder},
    primitives::Bytes,
    providers::{Provider, ProviderBuilder},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
    sol,
};
use cipherloom_client::{Client, DevStack, UnifiedTerms};
use cipherloom_primitives::{Address, Handle};

sol! {
    #[sol(rpc)]
    interface ConfidentialToken {
        function mint(address to, uint64 amount) external;
        function transfer(address to, bytes32 amount, bytes calldata inputProof) external returns (bytes32 moved);
        function makeTotalSupplyPublic() external;
        function verifyTotalSupply(uint64 clear, bytes calldata decryptionProof) external;
        function balanceOf(address account) external view returns (bytes32);
        function publishedTotalSupply() external view returns (bytes32);
        function verifiedTotalSupply() external view returns (uint64);
    }
}

/// The compiled token; knows the host contracts of the development chain.
const TOKEN: &str = include_str!("../../../examples/confidential-token/artifacts/ConfidentialToken.json");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args_os()
        .nth(1)
        .ok_or("say where the output of `cipherloom dev --json` is")?;
    let stack = DevStack::read(PathBuf::from(file))?;
    let [alice, bob, ..] = stack.insecure_accounts.as_slice() else {
        return Err("the stack has no accounts with ether".into());
    };
    let client = stack.client().build().await?;
    let started = Instant::now();
    let step = |what: &str| println!("{:>7.2} s  {what}", started.elapsed().as_secs_f64());

    let provider = ProviderBuilder::new()
        .wallet(EthereumWallet::from(alice.clone()))
        .connect_http(stack.rpc_url.parse()?);
    let artifact: serde_json::Value = serde_json::from_str(TOKEN)?;
    let bytecode = artifact.get("bytecode").and_then(serde_json::Value::as_str);
    let bytecode: Bytes = bytecode.ok_or("the artifact has no bytecode")?.parse()?;
    let creation = TransactionRequest::default().with_deploy_code(bytecode);
    let receipt = provider.send_transaction(creation).await?.get_receipt().await?;
    let token = receipt.contract_address.ok_or("the deployment created no contract")?;
    let contract = ConfidentialToken::new(token, &provider);
    contract.mint(alice.address(), 1_000).send().await?.get_receipt().await?;
    step(&format!("deployed the token at {token} and minted 1000 for Alice"));

    let input = client.encrypt(token, alice.address()).add64(250).encrypt().await?;
    let amount = input.handles.first().ok_or("the input has no handle")?;
    step("encrypted 250 with a proof");
    let transfer = contract.transfer(bob.address(), amount.as_b256(), input.input_proof);
    transfer.send().await?.get_receipt().await?;
    step("sent it to Bob");

    for (name, person) in [("Alice", alice), ("Bob", bob)] {
        let handle = Handle::try_from(contract.balanceOf(person.address()).call().await?)?;
        let balance = balance(&client, person, token, handle).await?;
        step(&format!("{name} reads a balance of {balance}"));
    }

    contract.makeTotalSupplyPublic().send().await?.get_receipt().await?;
    let handle = Handle::try_from(contract.publishedTotalSupply().call().await?)?;
    let public = client.public_decrypt(&[handle]).await?;
    let (_, total) = public.values.first().ok_or("the answer has no value")?;
    let clear = u64::try_from(total.to_u256())?;
    contract.verifyTotalSupply(clear, public.proof).send().await?.get_receipt().await?;
    let verified = contract.verifiedTotalSupply().call().await?;
    step(&format!("the contract has verified a total supply of {verified}"));
    Ok(())
}

/// Reads a balance under a permit for whatever the person may read in the token, valid for an hour.
async fn balance(client: &Client, person: &PrivateKeySigner, token: Address, handle: Handle) -> Result<String, Box<dyn Error>> {
    let permit = client.permit(person, UnifiedTerms::starting_now(vec![token], 3600)).await?;
    let values = client.user_decrypt(&[(handle, token)], &permit).await?;
    Ok(values.first().ok_or("the answer has no value")?.1.to_string())
}
