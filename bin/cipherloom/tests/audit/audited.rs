//! What anybody finds out about a running committee from the command line: `cipherloom kms status`, `verify`, `audit` and `policy`.

use std::{fs, path::Path};

use serde_json::Value;

use crate::process::cipherloom;

/// A committee that serves, as an auditor sees it, and as one of its operators does.
pub(crate) struct Audited<'a> {
    /// The public ports, party 1 first.
    pub(crate) nodes: Vec<String>,
    pub(crate) rpc_url: String,
    pub(crate) gateway_url: String,
    /// The first node's party directory.
    pub(crate) party_dir: &'a Path,
    /// A directory for the auditor's files.
    pub(crate) directory: &'a Path,
}

/// What a command printed, and its exit code.
struct Said {
    code: Option<i32>,
    text: String,
    errors: String,
}

impl Said {
    fn has(&self, words: &str) -> &Self {
        assert!(self.text.contains(words), "{words:?} is not in\n{}\n{}", self.text, self.errors);
        self
    }

    fn lacks(&self, words: &str) -> &Self {
        assert!(!self.text.contains(words), "{words:?} is in\n{}", self.text);
        self
    }

    fn ends_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.text, self.errors);
        self
    }
}

fn say<S: AsRef<str>>(arguments: &[S]) -> Said {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let output = cipherloom(&arguments).output().unwrap();
    Said {
        code: output.status.code(),
        text: String::from_utf8(output.stdout).unwrap(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Audited<'_> {
    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn verify(&self, policy: &str, nodes: &[String], more: &[String]) -> Said {
        let fixed = [
            "kms".to_owned(),
            "verify".to_owned(),
            format!("--policy={policy}"),
            format!("--rpc-url={}", self.rpc_url),
        ];
        say(&[&fixed, nodes, more].concat())
    }

    /// Looks at everything: what is right is found right, and what is not is found out.
    pub(crate) fn check(&self) {
        self.check_status();
        let policy = self.make_policy();
        self.check_verification(&policy);
        self.check_log();
    }

    fn check_status(&self) {
        let urls = |more: &[&str]| -> Vec<String> {
            let fixed = ["kms", "status"].iter().chain(more).map(|word| (*word).to_owned());
            fixed.chain(self.nodes.clone()).collect()
        };
        // Simulated hardware and toy keys: nobody may take this for a production committee.
        say(&urls(&[]))
            .ends_with(1)
            .has("serving")
            .has("4 of 4")
            .has("development only")
            .lacks("disagree");
        let said = say(&urls(&["--json"]));
        let told: Value = serde_json::from_str(&said.text).unwrap();
        assert_eq!(told["nodes"].as_array().unwrap().len(), self.nodes.len());
        for (party, node) in (1..).zip(told["nodes"].as_array().unwrap()) {
            assert_eq!(node["status"]["party"], party, "{node}");
            assert!(node["auditRecords"].as_u64().unwrap() > 0, "{node}");
        }
        let nobody = ["kms", "status", "http://127.0.0.1:1"];
        say(&nobody).ends_with(2).has("no answer");
    }

    /// Drafts the auditor's policy from the nodes, which takes a word more since they are simulated.
    fn make_policy(&self) -> String {
        let file = self.path("policy.json");
        let mut line = vec![
            "kms".to_owned(),
            "policy".to_owned(),
            "make".to_owned(),
            "--name=test".to_owned(),
            format!("--output={file}"),
        ];
        line.extend(self.nodes.iter().map(|url| format!("--node={url}")));
        let refused = say(&line);
        refused.ends_with(2);
        assert!(refused.errors.contains("simulated"), "{}", refused.errors);
        line.push("--allow-simulated".to_owned());
        say(&line).ends_with(0);
        say(&["kms", "policy", "check", &file]).ends_with(1).has("INSECURE");
        let digest = say(&["kms", "policy", "digest", &file]);
        let told = say(&["kms", "status", "--json", &self.nodes[0]]);
        assert!(
            told.text.contains(digest.text.trim()),
            "the nodes use the same policy: {}",
            told.text
        );
        file
    }

    fn check_verification(&self, policy: &str) {
        let gateway = format!("--gateway={}", self.gateway_url);
        let allow = "--allow-insecure".to_owned();
        // Everything is looked at, and all that is to be said is that it is for development.
        let whole = self.verify(policy, &self.nodes, &[gateway.clone(), allow.clone()]);
        whole.ends_with(1).lacks("NOT CHECKED").has("SIMULATED").lacks("FAIL");
        for words in [
            "is registered as party 1",
            "is registered as party 4",
            "all 4 registered signers were looked at",
            "4 nodes, of which 1 may be corrupt",
            "all 4 members signed it",
            "evidence of the ceremony is SIMULATED",
            "the key was made in the hardware of the dealer",
            "its public key is",
            "the id of the key set whose shares the nodes have",
        ] {
            whole.has(words);
        }
        // Without the word, simulated evidence and toy keys are wrong.
        self.verify(policy, &self.nodes, std::slice::from_ref(&gateway))
            .ends_with(2)
            .has("SIMULATED")
            .has("parameters");
        // What was not looked at is told.
        let partly = self.verify(policy, &self.nodes[..3], std::slice::from_ref(&allow));
        partly
            .ends_with(1)
            .has("NOT CHECKED: 1 of 4 registered signers")
            .has("NOT CHECKED: what clients encrypt to");
        // Another policy: nothing is believed.
        let strict = self.path("strict.json");
        fs::write(&strict, STRICT).unwrap();
        self.verify(&strict, &self.nodes[..1], std::slice::from_ref(&allow))
            .ends_with(2)
            .has("its evidence is not believed")
            .has("the policy does not allow it");
        fs::write(&strict, r#"{"version":1}"#).unwrap();
        let empty = self.verify(&strict, &self.nodes[..1], std::slice::from_ref(&allow));
        empty.ends_with(2);
        assert!(empty.errors.contains("accepts nothing"), "{}", empty.errors);
        // What is no node.
        self.verify(policy, std::slice::from_ref(&self.rpc_url), std::slice::from_ref(&allow))
            .ends_with(2);
        // A gateway that is none of this committee's: the chain's node.
        let elsewhere = format!("--gateway={}", self.rpc_url);
        self.verify(policy, &self.nodes, &[elsewhere, allow])
            .ends_with(2)
            .has("do not encrypt");
    }

    fn check_log(&self) {
        let log = self.log();
        let (node, kept) = (format!("--node={}", self.nodes[0]), self.path("head.json"));
        say(&["kms", "audit", &node, &format!("--save-head={kept}")])
            .ends_with(0)
            .has("records");
        let head = format!("--head={kept}");
        say(&["kms", "audit", &log, &node, &head])
            .ends_with(0)
            .has("each follows the one before")
            .has("the log has what was signed");
        say(&["kms", "audit", &log])
            .ends_with(1)
            .has("nothing says where the log should end");
        let told: Value = serde_json::from_str(&say(&["kms", "audit", &log, &head, "--json"]).text).unwrap();
        let records = told["records"].as_u64().unwrap();
        assert_eq!(told["summary"]["records"], records);
        assert!(
            told["summary"]["requesters"]["number"].as_u64().unwrap() >= 2,
            "the public and an account: {told}"
        );

        let lines = fs::read_to_string(&log).unwrap();
        let forged = self.path("forged.jsonl");
        let forge = |text: &str| {
            fs::write(&forged, text).unwrap();
            say(&["kms", "audit", &forged, &head])
        };
        // Cut off: only the signed head shows it.
        let cut: Vec<&str> = lines.lines().take(usize::try_from(records).unwrap() - 1).collect();
        forge(&(cut.join("\n") + "\n")).ends_with(2).has("its end is missing");
        // Edited.
        forge(&lines.replacen("\"time\":1", "\"time\":2", 1)).ends_with(2).has("FAIL");
        // Another log altogether, as whole as this one.
        forge("").ends_with(2).has("its end is missing");
        // A head that somebody has edited counts for nothing.
        let text = fs::read_to_string(&kept).unwrap();
        let changed = text.replace(&format!("\"records\": {records}"), "\"records\": 1");
        assert_ne!(changed, text);
        let lie = self.path("lie.json");
        fs::write(&lie, changed).unwrap();
        let refused = say(&["kms", "audit", &log, &format!("--head={lie}")]);
        refused.ends_with(2);
        assert!(refused.errors.contains("not signed"), "{}", refused.errors);
    }

    /// Copies the first node's log, which goes on being written.
    fn log(&self) -> String {
        let audit = self.party_dir.join("audit");
        let mut files = fs::read_dir(&audit).unwrap().map(|entry| entry.unwrap().path());
        let file = files.next().unwrap();
        assert!(files.next().is_none(), "one chain, one log");
        let copy = self.path("copy.jsonl");
        fs::copy(file, &copy).unwrap();
        copy
    }
}

/// A policy for hardware that these nodes are not.
const STRICT: &str = r#"{
  "version": 1,
  "images": [{
    "name": "hardware",
    "mr-td": "0x010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101",
    "rtmr0": ["0x010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101"],
    "rtmr1": "0x010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101",
    "rtmr2": "0x010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101",
    "compose-hashes": ["0x0101010101010101010101010101010101010101010101010101010101010101"],
    "app-ids": ["0x0101010101010101010101010101010101010101"],
    "key-providers": ["0x01"]
  }]
}"#;
