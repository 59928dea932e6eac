//! Ciphertexts by their handle: from a coprocessor, from its database, and from the mirror it publishes to.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use cipherloom_fhe::{KeySet, ParameterSet};
use cipherloom_load::{Deployment, Role, TenantAccess, TenantClient};
use cipherloom_primitives::{B256, FheType, Handle};
use cipherloom_rpc::fhevm::coprocessor::TrivialEncryptRequestSingle;
use serde_json::Value;
use tempfile::TempDir;

use crate::operators::{database, text};

const CHAIN: u64 = 31_337;

/// Who signs in these tests, and somebody else.
const SOMEBODY: &str = "0x00000000000000000000000000000000000000aa";

/// A deployment with a tenant whose keys hide nothing.
struct Ground {
    deployment: Deployment,
    tenant: Arc<TenantAccess>,
    directory: TempDir,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeySet::generate(&directory.path().join("keys"), ParameterSet::InsecureClear, &()).unwrap();
        let deployment = Deployment::insecure_new(env!("CARGO_BIN_EXE_cipherloom"), &database(), directory.path()).unwrap();
        deployment.run(&["db", "migrate"]).unwrap();
        let tenant = deployment.add_tenant("shop", CHAIN, Some(keys.directory())).unwrap();
        Self {
            deployment,
            tenant,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn mirror(&self) -> String {
        format!("file://{}", self.path("mirror").display())
    }

    /// Runs `cipherloom ciphertext`, which must succeed, and reads the JSON it prints.
    fn succeeds(&self, arguments: &[&str]) -> Value {
        self.deployment.ask(&[&["ciphertext"], arguments, &["--json"]].concat()).unwrap()
    }

    /// Runs `cipherloom ciphertext`, which must fail, and returns what it says.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.deployment.command(&[&["ciphertext"], arguments].concat()).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
        assert!(output.stdout.is_empty(), "{arguments:?} fails and prints {}", text(&output.stdout));
        text(&output.stderr)
    }
}

fn handle(tag: u8) -> Handle {
    Handle::computed(B256::repeat_byte(tag), CHAIN, FheType::Uint8)
}

async fn store_values(client: &TenantClient, tags: std::ops::RangeInclusive<u8>) {
    let values: Vec<_> = tags
        .map(|tag| TrivialEncryptRequestSingle {
            handle: handle(tag).as_slice().to_vec().into(),
            be_value: vec![tag].into(),
            output_type: FheType::Uint8.id().into(),
        })
        .collect();
    client.trivial_encrypt(&values).await.unwrap();
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_is_the_same_from_everywhere_and_verifies() {
    let ground = Ground::new();
    let server = ground.deployment.start(Role::Server, &[]).unwrap();
    let url = server.url().unwrap();
    let client = TenantClient::new(&url, Arc::clone(&ground.tenant), Duration::from_secs(60)).unwrap();
    store_values(&client, 1..=3).await;

    let published = ground.succeeds(&[
        "publish",
        "--mirror",
        &ground.mirror(),
        "--coprocessor-private-key",
        utf8(&ground.path("coprocessor.key")),
    ]);
    assert_eq!(published["tenants"][0]["values"], 3);
    let signer = published["signer"].as_str().unwrap().to_owned();

    let (value, key_file) = (handle(1).to_string(), ground.path("api.key"));
    std::fs::write(&key_file, &ground.tenant.api_key).unwrap();
    let (file, record) = (ground.path("value.bin"), ground.path("record.json"));
    let mirror = ground.mirror();
    let from_mirror = ["get", &value, "--mirror", &mirror, "--signer", &signer];
    let outputs = ["--out", utf8(&file), "--record-out", utf8(&record)];
    let mirrored = ground.succeeds(&[&from_mirror[..], &outputs].concat());
    assert_eq!((&mirrored["source"], &mirrored["signerExpected"]), (&"mirror".into(), &true.into()));
    assert_eq!(mirrored["signer"].as_str().unwrap().to_lowercase(), signer.to_lowercase());
    assert_eq!(mirrored["form"], "packed");
    let from_server = [
        "get",
        &value,
        "--server",
        &url,
        "--api-key-file",
        utf8(&key_file),
        "--signer",
        &signer,
    ];
    let served = ground.succeeds(&from_server);
    let from_database = ground.succeeds(&["get", &value, "--tenant", "shop"]);
    for other in [&served, &from_database] {
        assert_eq!(other["digest"], mirrored["digest"]);
        assert_eq!(other["sizeBytes"], mirrored["sizeBytes"]);
        assert_eq!(other["type"], mirrored["type"]);
    }
    assert_eq!(served["signatureVerified"], true);
    assert_eq!(from_database["signatureVerified"], false);

    // Offline, and then with a byte changed, which leaves nothing behind.
    let verify = ["verify", utf8(&file), "--record", utf8(&record)];
    let by_signer = [&verify[..], &["--signer", &signer]].concat();
    ground.succeeds(&by_signer);
    ground.succeeds(&[&by_signer[..], &["--handle", &value]].concat());
    assert!(
        ground
            .fails(&[&by_signer[..], &["--handle", &handle(2).to_string()]].concat())
            .contains("about handle")
    );
    assert!(ground.fails(&verify).contains("--signer"), "somebody must be expected");
    assert!(
        ground
            .fails(&[&verify[..], &["--signer", SOMEBODY]].concat())
            .contains("none of the expected signers")
    );
    assert_eq!(ground.succeeds(&[&verify[..], &["--any-signer"]].concat())["signerExpected"], false);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&bytes[..], b"!"].concat()).unwrap();
    assert!(ground.fails(&by_signer).contains("vouched for"));

    let nobody = ["--signer", SOMEBODY];
    assert!(ground.fails(&[&from_mirror[..4], &nobody].concat()).contains("no record"));
    assert!(
        ground
            .fails(&[&from_server[..6], &nobody].concat())
            .contains("none of the expected signers")
    );
    assert!(ground.fails(&from_mirror[..4]).contains("--any-signer"));
    assert_eq!(
        ground.succeeds(&[&from_mirror[..4], &["--any-signer"]].concat())["digest"],
        mirrored["digest"]
    );
    let digest = mirrored["digest"].as_str().unwrap().trim_start_matches("0x");
    std::fs::write(ground.path("mirror").join(&digest[..2]).join(digest), b"forged").unwrap();
    let out = ground.path("forged.bin");
    assert!(
        ground
            .fails(&[&from_mirror[..], &["--out", utf8(&out)]].concat())
            .contains("vouched for")
    );
    assert!(!out.exists());

    // What is not there.
    let unknown = handle(9).to_string();
    assert!(
        ground
            .fails(&["get", &unknown, "--mirror", &mirror, "--signer", &signer])
            .contains("no record")
    );
    assert!(ground.fails(&["get", &unknown, "--tenant", "shop"]).contains("knows nothing"));
    assert!(ground.fails(&["get", &value, "--tenant", "nobody"]).contains("no such tenant"));
    let unknown_from_server = [&["get", &unknown], &from_server[2..]].concat();
    assert!(ground.fails(&unknown_from_server).contains("no ciphertext"));
    std::fs::write(&key_file, "00000000-0000-4000-8000-000000000000").unwrap();
    assert!(ground.fails(&from_server).contains("the coprocessor answers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_publishes_to_the_mirror_it_is_told() {
    let ground = Ground::new();
    let server = ground.deployment.start(Role::Server, &[]).unwrap();
    let client = TenantClient::new(&server.url().unwrap(), Arc::clone(&ground.tenant), Duration::from_secs(60)).unwrap();
    store_values(&client, 1..=3).await;
    server.terminate(Duration::from_secs(60)).unwrap();
    let mirror = ground.mirror();
    // Two servers share the work, and the bytes of what they serve too.
    let options = ["--mirror", &mirror];
    let servers = [(); 2].map(|()| ground.deployment.start(Role::Server, &options).unwrap());
    let start = Instant::now();
    for tag in 1..=3 {
        let value = handle(tag).to_string();
        let get = ["ciphertext", "get", &value, "--mirror", &mirror, "--any-signer"];
        while !ground.deployment.command(&get).output().unwrap().status.success() {
            assert!(start.elapsed() < Duration::from_secs(60), "{}", servers[0].log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    for server in servers {
        server.terminate(Duration::from_secs(60)).unwrap();
    }
    let key = ground.path("coprocessor.key");
    let publish = ["publish", "--mirror", &mirror, "--coprocessor-private-key", utf8(&key)];
    assert_eq!(ground.succeeds(&publish)["tenants"][0]["values"], 0, "it is published once");
    assert_eq!(ground.succeeds(&[&publish[..], &["--again"]].concat())["tenants"][0]["values"], 3);
    assert!(
        ground
            .fails(&[
                "publish",
                "--mirror",
                "https://mirror.example",
                "--coprocessor-private-key",
                utf8(&key)
            ])
            .contains("only be read")
    );
}
