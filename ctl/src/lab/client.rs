//! The tool's end of a lab's control socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::protocol::{Envelope, Request, VERSION, address_prefix};

/// Where the kernel lists Unix sockets; an abstract one has an `@` in front.
const SOCKETS: &str = "/proc/net/unix";

/// The names of this user's labs.
///
/// # Errors
/// If the kernel does not tell.
pub fn labs() -> Result<Vec<String>, String> {
    let list = std::fs::read_to_string(SOCKETS)
        .map_err(|error| format!("cannot read {SOCKETS}: {error}"))?;
    let prefix = format!("@{}", address_prefix());
    let name = |line: &str| {
        Some(
            line.split_ascii_whitespace()
                .last()?
                .strip_prefix(&prefix)?
                .to_string(),
        )
    };
    // A connection that is open is listed under the name of its lab, too.
    let mut names: Vec<_> = list.lines().filter_map(name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The lab that is meant: the one of that name, or the only one.
///
/// # Errors
/// If it cannot be told which.
pub fn choose(name: Option<&str>) -> Result<String, String> {
    if let Some(name) = name {
        return Ok(name.to_string());
    }
    let mut labs = labs()?;
    match labs.len() {
        0 => Err("no lab is up: `hearth lab up` starts one".into()),
        1 => Ok(labs.remove(0)),
        _ => Err(format!(
            "several labs are up: choose one with `--name`: {}",
            labs.join(", ")
        )),
    }
}

/// A connection after its answer has come.
pub struct Answered {
    /// What the lab has answered.
    pub answer: Value,
    /// What else it sends.
    pub reader: BufReader<UnixStream>,
}

/// Makes a request of a lab.
///
/// # Errors
/// If there is no such lab, it refuses, or it ends meanwhile.
pub fn ask(lab: &str, request: Request) -> Result<Answered, String> {
    let address = format!("{}{lab}", address_prefix());
    let mut stream = SocketAddr::from_abstract_name(address)
        .and_then(|address| UnixStream::connect_addr(&address))
        .map_err(|error| match labs().unwrap_or_default() {
            others if others.is_empty() => {
                format!("no lab is up: `hearth lab up` starts one ({error})")
            }
            others => format!(
                "there is no lab {lab} ({error}); these are up: {}",
                others.join(", ")
            ),
        })?;
    let envelope = Envelope {
        hearth_lab: VERSION,
        request,
    };
    let gone = |error: std::io::Error| format!("lab {lab} is gone: {error}");
    let mut line = serde_json::to_vec(&envelope)
        .map_err(|error| format!("cannot write the request: {error}"))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(gone)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(gone)?;
    if line.is_empty() {
        return Err(format!(
            "lab {lab} has ended, or too many connections are open to it"
        ));
    }
    let answer: Value = serde_json::from_str(&line)
        .map_err(|error| format!("lab {lab} answers nonsense: {error}"))?;
    if answer["ok"] != true {
        let trouble = answer["trouble"].as_str().unwrap_or("it does not say why");
        return Err(trouble.to_string());
    }
    Ok(Answered { answer, reader })
}

/// Makes a request whose answer is a `T`.
///
/// # Errors
/// As [`ask`], and if the answer is something else.
pub fn get<T: DeserializeOwned>(lab: &str, request: Request) -> Result<T, String> {
    let answer = ask(lab, request)?.answer;
    serde_json::from_value(answer)
        .map_err(|error| format!("lab {lab} answers something else: {error}"))
}
