//! `cipherloom sdk-config`: what a client SDK has to be told about a stack, ready to be pasted.
//!
//! Everything but the gateway's URL is read from the chain, where the SDKs read it too and compare. `cargo xtask e2e sdk config` runs what this prints.

use std::{path::PathBuf, time::Duration};

use alloy::primitives::Address;
use anyhow::{Context, Result, ensure};
use cipherloom_chain::{CallLimits, HostChain, survey::Survey};
use cipherloom_contracts::{Face, HostAddresses, development};
use cipherloom_primitives::eip712::SigningDomains;
use cipherloom_service::chains::contract_addresses;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

/// The command's help.
pub(crate) const HELP: &str = "\
Print the configuration of a client SDK for a running stack, ready to be pasted.

By default this is for `cipherloom dev` on this machine, and @zama-fhe/relayer-sdk. The contracts' addresses come from --deployment, or from the known \
plan of chains 31337 and 12345; the domains of signatures are read from the contracts themselves. What is printed goes to standard output, and anything that \
looks wrong, such as a gateway that does not answer, to standard error.

docs/sdks.md tells what each SDK can do here.";

/// How long the gateway may take to answer.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(3);

/// Which SDK, and where the stack is.
#[derive(Clone, Debug, Args)]
pub(crate) struct SdkConfigOptions {
    /// The SDK.
    #[arg(long, value_enum, default_value_t)]
    sdk: Sdk,

    /// The chain's node, as the SDK will reach it.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    rpc: String,

    /// The gateway, without a version of its routes, as the SDK will reach it.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8546", value_parser = parse_gateway)]
    gateway: String,

    /// The file about the deployment that `cipherloom contracts deploy` wrote [default: the known plan of chains 31337 and 12345].
    #[arg(long, value_name = "FILE")]
    deployment: Option<PathBuf>,

    /// The genesis.json of a native chain [default: the plan that native chains have unless their founder chose another].
    #[arg(long, value_name = "FILE", conflicts_with = "deployment")]
    native_genesis: Option<PathBuf>,

    /// The version of the gateway's routes, for relayer-sdk: 2 says why something was refused and knows delegation, 1 answers without waiting a
    /// second.
    #[arg(long, value_name = "VERSION", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    routes: u8,

    /// For a page instead of for Node.js.
    #[arg(long)]
    web: bool,

    /// Print the SDK's configuration object alone, as JSON.
    #[arg(long)]
    json: bool,
}

/// The SDKs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Sdk {
    /// @zama-fhe/relayer-sdk 0.4.
    #[default]
    #[value(name = "relayer-sdk")]
    Relayer,
    /// @fhevm/sdk, with ethers.
    #[value(name = "fhevm-sdk")]
    Fhevm,
    /// @zama-fhe/sdk 3.
    #[value(name = "zama-sdk")]
    Zama,
}

fn parse_gateway(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err("the gateway's URL starts with http:// or https://".to_owned());
    }
    if ["/v1", "/v2", "/v3"].iter().any(|version| url.ends_with(version)) {
        return Err("give the gateway's URL without the version of its routes; SDKs that want one get it".to_owned());
    }
    Ok(url.to_owned())
}

/// Reads the chain, looks at the gateway, and prints.
///
/// # Errors
/// If the chain does not answer, nothing says where its host contracts are, or there are none.
pub(crate) async fn run(options: &SdkConfigOptions) -> Result<()> {
    let found = Found::on(options).await?;
    if let Err(error) = ask_gateway(&options.gateway).await {
        eprintln!("warning: {error:#}");
    }
    if found.is_native {
        eprintln!(
            "note: on this native chain inputs need nothing of the application if the gateway brings them to the chain, as that of `cipherloom dev` does; see \
             docs/native-kms.md"
        );
    }
    let configuration = configuration(options, &found);
    if options.json {
        println!("{configuration:#}");
    } else {
        print!("{}", typescript(options, &found, &configuration));
    }
    Ok(())
}

/// What was found on chain.
struct Found {
    chain_id: u64,
    addresses: HostAddresses,
    domains: SigningDomains,
    face: Option<Face>,
    /// Validators check inputs, and nobody signs them.
    is_native: bool,
}

impl Found {
    async fn on(options: &SdkConfigOptions) -> Result<Self> {
        let connect = |addresses| HostChain::connect_all(std::slice::from_ref(&options.rpc), addresses, CallLimits::default(), None);
        // No contract is asked anything yet, so it does not matter where they are.
        let chain_id = connect(HostAddresses::of_deployer(Address::ZERO))?
            .chain_id()
            .await
            .with_context(|| {
                format!(
                    "nothing answers at {}; is `cipherloom dev` running, or is the chain elsewhere (--rpc)?",
                    options.rpc
                )
            })?;
        let bare = connect(HostAddresses::of_deployer(Address::ZERO))?;
        let is_native = bare.native_public_key().await.is_ok();
        let addresses = match (&options.native_genesis, &options.deployment) {
            (None, None) if is_native => development::addresses(),
            (genesis, deployment) => contract_addresses(chain_id, deployment.as_deref(), genesis.as_deref())?,
        };
        let survey = Survey::take(&connect(addresses)?).await?;
        let face = survey.face();
        let state = survey
            .state
            .with_context(|| format!("there are no host contracts on chain {chain_id} at {}", addresses.acl))?;
        Ok(Self {
            chain_id,
            addresses,
            domains: state.domains,
            face,
            is_native,
        })
    }
}

/// Says what is wrong if the gateway does not serve keys.
async fn ask_gateway(url: &str) -> Result<()> {
    let client = reqwest::Client::builder().timeout(GATEWAY_PATIENCE).build()?;
    let answer = client.get(format!("{url}/v2/keyurl")).send().await;
    let answer = answer.with_context(|| format!("the gateway does not answer at {url}; the SDK will not start before it does"))?;
    ensure!(
        answer.status().is_success(),
        "what answers at {url} is no gateway: {} at /v2/keyurl",
        answer.status()
    );
    Ok(())
}

/// The object that the SDK is given. Addresses have their checksum, since SDKs refuse them without.
fn configuration(options: &SdkConfigOptions, found: &Found) -> Value {
    let address = |address: Address| address.to_checksum(None);
    let Found {
        chain_id,
        addresses,
        domains,
        ..
    } = found;
    let relayer = |routes: u8| {
        json!({
            "chainId": chain_id,
            "network": options.rpc,
            "relayerUrl": format!("{}/v{routes}", options.gateway),
            "gatewayChainId": domains.gateway_chain_id,
            "aclContractAddress": address(addresses.acl),
            "kmsContractAddress": address(addresses.kms_verifier),
            "inputVerifierContractAddress": address(addresses.input_verifier),
            "verifyingContractAddressDecryption": address(domains.decryption),
            "verifyingContractAddressInputVerification": address(domains.input_verification),
        })
    };
    match options.sdk {
        Sdk::Relayer => {
            let mut configuration = relayer(options.routes);
            if let Some(members) = configuration.as_object_mut() {
                members.insert("relayerRouteVersion".to_owned(), options.routes.into());
            }
            configuration
        }
        Sdk::Zama => json!({ chain_id.to_string(): relayer(2) }),
        Sdk::Fhevm => json!({
            "id": chain_id,
            "fhevm": {
                "contracts": {
                    "acl": { "address": address(addresses.acl) },
                    "inputVerifier": { "address": address(addresses.input_verifier) },
                    "kmsVerifier": { "address": address(addresses.kms_verifier) },
                },
                "relayerUrl": options.gateway,
                "gateway": {
                    "id": domains.gateway_chain_id,
                    "contracts": {
                        "decryption": { "address": address(domains.decryption) },
                        "inputVerification": { "address": address(domains.input_verification) },
                    },
                },
            },
        }),
    }
}

/// The program around it.
fn typescript(options: &SdkConfigOptions, found: &Found, configuration: &Value) -> String {
    let object = literal(configuration);
    let face = found.face.map_or("of an unknown version", Face::as_str);
    let head = format!(
        "// Chain {}, whose host contracts speak for protocol {face}; gateway at {}.\n",
        found.chain_id, options.gateway
    );
    let body = match (options.sdk, options.web) {
        (Sdk::Relayer, false) => {
            format!(
                "import {{ createInstance }} from \"@zama-fhe/relayer-sdk/node\";\n\n\
                 export const instance = await createInstance({object});\n"
            )
        }
        (Sdk::Relayer, true) => format!(
            "import {{ createInstance, initSDK }} from \"@zama-fhe/relayer-sdk/web\";\n\n\
             // Loads the WebAssembly: once, and best in a worker.\n\
             await initSDK();\n\
             export const instance = await createInstance({object});\n"
        ),
        (Sdk::Fhevm, _) => format!(
            "import {{ defineFhevmChain }} from \"@fhevm/sdk/chains\";\n\
             import {{ createFhevmClient, setFhevmRuntimeConfig }} from \"@fhevm/sdk/ethers\";\n\
             import {{ JsonRpcProvider }} from \"ethers\";\n\n\
             const chain = defineFhevmChain({object});\n\
             // Once, before the first client.\n\
             setFhevmRuntimeConfig({{}});\n\
             export const client = createFhevmClient({{ chain, provider: new JsonRpcProvider({}) }});\n\
             await client.init();\n",
            json!(options.rpc)
        ),
        (Sdk::Zama, web) => {
            let (class, package) = if web {
                ("RelayerWeb", "@zama-fhe/sdk")
            } else {
                ("RelayerNode", "@zama-fhe/sdk/node")
            };
            format!(
                "import {{ {class} }} from \"{package}\";\n\n\
                 export const relayer = new {class}({{\n  getChainId: async () => {},\n  transports: {},\n}});\n",
                found.chain_id,
                object.replace('\n', "\n  ")
            )
        }
    };
    head + &body
}

/// Writes an object as people write it in TypeScript: names without quotation marks, and commas after last members.
fn literal(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| {
                let line = format!("{name}: {},", literal(member));
                format!("  {}\n", line.replace('\n', "\n  "))
            });
            format!("{{\n{}}}", members.collect::<String>())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn options(arguments: &[&str]) -> Result<SdkConfigOptions, clap::Error> {
        let line = ["cipherloom", "sdk-config"].iter().chain(arguments);
        match Arguments::try_parse_from(line)?.command {
            Command::SdkConfig(options) => Ok(options),
            other => unreachable!("sdk-config was parsed as {other:?}"),
        }
    }

    fn development_chain() -> Found {
        Found {
            chain_id: development::HOST_CHAIN_ID,
            addresses: development::addresses(),
            domains: development::signing_domains(),
            face: Some(Face::V0_12),
            is_native: false,
        }
    }

    #[test]
    fn a_development_stack_needs_no_options() {
        let options = options(&[]).unwrap();
        let found = development_chain();
        let configuration = configuration(&options, &found);
        assert_eq!(configuration["relayerUrl"], "http://127.0.0.1:8546/v2");
        assert_eq!(configuration["aclContractAddress"], "0x50157CFfD6bBFA2DECe204a89ec419c23ef5755D");
        let page = typescript(&options, &found, &configuration);
        assert!(page.contains("  gatewayChainId: 10901,\n"), "{page}");
        assert!(page.contains("from \"@zama-fhe/relayer-sdk/node\""), "{page}");
        assert!(page.ends_with("});\n"), "{page}");
    }

    #[test]
    fn each_sdk_gets_the_url_in_the_form_it_wants() {
        let found = development_chain();
        let of = |sdk: &str| configuration(&options(&["--sdk", sdk, "--gateway", "https://fhe.example/"]).unwrap(), &found);
        assert_eq!(of("fhevm-sdk").pointer("/fhevm/relayerUrl").unwrap(), "https://fhe.example");
        assert_eq!(of("zama-sdk").pointer("/31337/relayerUrl").unwrap(), "https://fhe.example/v2");
        let first = options(&["--routes", "1"]).unwrap();
        assert_eq!(configuration(&first, &found)["relayerUrl"], "http://127.0.0.1:8546/v1");
        assert_eq!(configuration(&first, &found)["relayerRouteVersion"], 1);
    }

    #[test]
    fn a_url_with_a_version_or_of_something_else_is_refused() {
        for wrong in [
            "http://127.0.0.1:8546/v2",
            "http://127.0.0.1:8546/v1/",
            "127.0.0.1:8546",
            "ws://127.0.0.1:8546",
        ] {
            assert!(options(&["--gateway", wrong]).is_err(), "{wrong}");
        }
        assert!(options(&["--routes", "3"]).is_err());
    }

    #[test]
    fn objects_are_written_as_people_write_them() {
        let written = literal(&json!({ "a": { "b": "c" }, "d": 1 }));
        assert_eq!(written, "{\n  a: {\n    b: \"c\",\n  },\n  d: 1,\n}");
    }
}
