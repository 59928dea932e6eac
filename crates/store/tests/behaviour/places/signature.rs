//! Checks the signatures of S3 requests (AWS Signature Version 4), from their headers or, for prepared requests, from their query.

use axum::http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};

/// What a request says about its signature.
struct Claim {
    scope: Vec<String>,
    time: String,
    signed_headers: String,
    signature: String,
    content_hash: String,
    /// The query without the signature itself.
    query: Vec<String>,
}

/// Says what is wrong with the signature of a request.
pub(super) fn check(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8], secret_key: &str) -> Result<(), String> {
    let claim = claim(uri, headers)?;
    if claim.content_hash != "UNSIGNED-PAYLOAD" && claim.content_hash != hex(&Sha256::digest(body)) {
        return Err("the content has another hash".to_owned());
    }
    let mut canonical_headers = String::new();
    for name in claim.signed_headers.split(';') {
        let value = headers.get(name).ok_or_else(|| format!("the signed header {name} is missing"))?;
        canonical_headers += &format!("{name}:{}\n", value.to_str().unwrap().trim());
    }
    let unsigned = headers.keys().find(|name| {
        (name.as_str() == "host" || name.as_str().starts_with("x-amz-"))
            && !claim.signed_headers.split(';').any(|signed| signed == name.as_str())
    });
    if let Some(name) = unsigned {
        return Err(format!("the header {name} is not signed"));
    }
    let mut query = claim.query.clone();
    query.sort();
    let canonical = [
        method.as_str(),
        uri.path(),
        &query.join("&"),
        &canonical_headers,
        &claim.signed_headers,
        &claim.content_hash,
    ]
    .join("\n");
    let scope = claim.scope[1..].join("/");
    let to_sign = ["AWS4-HMAC-SHA256", &claim.time, &scope, &hex(&Sha256::digest(canonical.as_bytes()))].join("\n");
    let key = claim.scope[1..]
        .iter()
        .fold(format!("AWS4{secret_key}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
    if hex(&hmac(&key, to_sign.as_bytes())) == claim.signature {
        Ok(())
    } else {
        Err(format!("the signature does not fit {canonical:?}"))
    }
}

fn claim(uri: &Uri, headers: &HeaderMap) -> Result<Claim, String> {
    let header = |name: &str| Some(headers.get(name)?.to_str().unwrap().to_owned());
    let query: Vec<String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(str::to_owned)
        .collect();
    let parameter = |name: &str| {
        query
            .iter()
            .find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    };
    let claim = if let Some(signature) = parameter("X-Amz-Signature") {
        Claim {
            scope: split(&parameter("X-Amz-Credential").ok_or("there is no credential")?.replace("%2F", "/")),
            time: parameter("X-Amz-Date").ok_or("there is no date")?,
            signed_headers: parameter("X-Amz-SignedHeaders").ok_or("no headers are signed")?.replace("%3B", ";"),
            signature,
            content_hash: "UNSIGNED-PAYLOAD".to_owned(),
            query: query.iter().filter(|pair| !pair.starts_with("X-Amz-Signature=")).cloned().collect(),
        }
    } else {
        let authorization = header("authorization").ok_or("the request is not signed")?;
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
        let field = |name: &str| {
            fields
                .split(", ")
                .find_map(|field| Some(field.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
        };
        Claim {
            scope: split(&field("Credential").ok_or("there is no credential")?),
            time: header("x-amz-date").ok_or("there is no date")?,
            signed_headers: field("SignedHeaders").ok_or("no headers are signed")?,
            signature: field("Signature").ok_or("there is no signature")?,
            content_hash: header("x-amz-content-sha256").ok_or("there is no hash of the content")?,
            query,
        }
    };
    match claim.scope.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, date, _, "s3", "aws4_request"] if claim.time.starts_with(date) => Ok(claim),
        _ => Err("the credential has another form".to_owned()),
    }
}

fn split(scope: &str) -> Vec<String> {
    scope.split('/').map(str::to_owned).collect()
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    let hashed = Sha256::digest(key);
    let key = if key.len() > block.len() { &hashed[..] } else { key };
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner)
        .finalize()
        .to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn hmac_is_that_of_rfc_4231() {
    assert_eq!(
        hex(&hmac(b"Jefe", b"what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}
