//! A small HTTP/1.1 client that keeps its connection and hides nothing: tests need to see the connection end.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// Where the page is from that a request comes from, unless its headers say otherwise.
pub(crate) const ORIGIN: &str = "https://dapp.example";

/// One connection.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: BufReader<S>,
    host: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self {
            stream: BufReader::new(stream),
            host: address.to_string(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Talks over a connection that is there already.
    pub(crate) fn over(stream: S, host: String) -> Self {
        Self {
            stream: BufReader::new(stream),
            host,
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Response {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
            .await
    }

    /// Sends a request and reads its answer; panics if none comes within ten seconds.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let exchange = async {
            self.write(method, path, headers, body).await?;
            self.read(method).await
        };
        let result = tokio::time::timeout(Duration::from_secs(10), exchange).await;
        result
            .unwrap_or_else(|_| panic!("{method} {path} hangs"))
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) async fn write(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("host: {}\r\n", self.host);
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("origin")) {
            head += &format!("origin: {ORIGIN}\r\n");
        }
        // The length is ours to say, whatever was recorded.
        for (name, value) in headers.iter().filter(|(name, _)| *name != "content-length") {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "\r\n";
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat()).await
    }

    pub(crate) async fn read(&mut self, method: &str) -> io::Result<Response> {
        let status_line = self.line().await?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| io::Error::other(status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        if method != "HEAD" && status != 304 && status != 204 {
            let length = response
                .header("content-length")
                .unwrap_or_else(|| panic!("no length in {response:?}"))
                .parse()
                .unwrap();
            response.body.resize(length, 0);
            self.stream.read_exact(&mut response.body).await?;
        }
        Ok(response)
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Waits until the server closes the connection and returns whether it sent anything before.
    pub(crate) async fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is as closed as an end.
        let _ = self.stream.read_to_end(&mut rest).await;
        !rest.is_empty()
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn label(&self) -> String {
        self.json()["error"]["label"]
            .as_str()
            .unwrap_or_else(|| panic!("no label in {:?}", self.json()))
            .to_owned()
    }
}
