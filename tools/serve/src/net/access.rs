//! Who may do what: callers known by a token or by their certificate, with a role each.
//!
//! ```text
//! # name      secret                       role (infer unless said)
//! line-7      k3JvQ0mS9rXw2TzB8eYd         infer
//! operator    5fGh7JkL1qWe3RtY9uIo         admin
//! robot-cell  sha256:9f86d081...0f00a08    infer
//! ```
//!
//! `sha256:` and 64 hexadecimal digits are the fingerprint of a client certificate. Tokens are kept as digests and compared
//! in constant time, each with all, so the time of a comparison tells nothing of them.

use std::fs;
use std::path::Path;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::error::{Kind, ServeError};

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Infer and look.
    Infer,
    /// Also load and unload models.
    Admin,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For fairness and logs: name in the access file, fingerprint, address, or user on a Unix socket.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// How a connection came.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Address, or user on a Unix socket.
    pub name: String,
    /// Digest of the certificate that TLS verified.
    pub certificate: Option<[u8; 32]>,
}

/// The access file.
#[derive(Debug, Default)]
pub struct Access {
    tokens: Vec<([u8; 32], Caller)>,
    certificates: Vec<([u8; 32], Caller)>,
}

/// A shorter token could be guessed.
const SHORTEST: usize = 16;
/// No file of callers is so large.
const LARGEST: u64 = 1 << 20;

impl Access {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Names file and line, never a token.
    pub fn read(path: &Path) -> Result<Self, String> {
        let size = fs::metadata(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?.len();
        if size > LARGEST {
            return Err(format!("{} has {size} bytes; an access file has at most {LARGEST}", path.display()));
        }
        let text = fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        Self::parse(&text).map_err(|(line, why)| format!("{}, line {line}: {why}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut access = Self::default();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong = |why: &str| Err((number + 1, why.to_string()));
            let (name, secret, role) = match words[..] {
                [] => continue,
                [first, ..] if first.starts_with('#') => continue,
                [name, secret] | [name, secret, "infer"] => (name, secret, Role::Infer),
                [name, secret, "admin"] => (name, secret, Role::Admin),
                [_, _, _] => return wrong("the role is infer or admin"),
                _ => return wrong("a line has a name, a token or sha256:FINGERPRINT, and a role"),
            };
            let caller = Caller { name: name.to_string(), role };
            match secret.strip_prefix("sha256:") {
                Some(digits) => match fingerprint(digits) {
                    Some(digest) => access.certificates.push((digest, caller)),
                    None => return wrong("a fingerprint has 64 hexadecimal digits, colons between them allowed"),
                },
                None if secret.len() < SHORTEST => {
                    return wrong("the token has fewer than 16 characters; take one of `openssl rand -hex 24`");
                }
                None => access.tokens.push((Sha256::digest(secret.as_bytes()).into(), caller)),
            }
        }
        if access.tokens.is_empty() && access.certificates.is_empty() {
            return Err((1, "nobody is in it, so nobody could call".into()));
        }
        Ok(access)
    }

    /// Whether anybody comes with a token.
    pub fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Who calls, by the token of `Authorization: Bearer` or else by certificate.
    ///
    /// # Errors
    ///
    /// [`Kind::Unauthenticated`].
    pub fn caller(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, ServeError> {
        let refused = |why: &str| Err(ServeError::new(Kind::Unauthenticated, why));
        if let Some(value) = headers.get(AUTHORIZATION) {
            let Some(token) = bearer(value.as_bytes()) else {
                return refused("the authorization is not `Bearer TOKEN`");
            };
            return match self.by_token(token) {
                Some(caller) => Ok(caller.clone()),
                None => refused("the token is not known here; ask the operator for one"),
            };
        }
        match &peer.certificate {
            Some(digest) => Ok(match self.certificates.iter().find(|(known, _)| known == digest) {
                Some((_, caller)) => caller.clone(),
                // The authority vouches for it; that is enough to infer.
                None => Caller { name: certificate_name(digest), role: Role::Infer },
            }),
            None => refused("a token is needed: send `Authorization: Bearer TOKEN`"),
        }
    }

    fn by_token(&self, token: &[u8]) -> Option<&Caller> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let mut found = u32::MAX;
        for (index, (known, _)) in self.tokens.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            found.conditional_assign(&index, known.ct_eq(&digest));
        }
        self.tokens.get(found as usize).map(|(_, caller)| caller)
    }
}

/// Who calls where there is no access file: everybody may do everything.
pub fn anyone(peer: &Peer) -> Caller {
    let name = peer.certificate.as_ref().map_or_else(|| peer.name.clone(), certificate_name);
    Caller { name, role: Role::Admin }
}

/// The part of a fingerprint that is enough for a log.
fn certificate_name(digest: &[u8; 32]) -> String {
    let hex: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
    format!("certificate:{hex}")
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn fingerprint(digits: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = digits.bytes().filter(|&b| b != b':').collect();
    let mut digest = [0; 32];
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# callers\n\nline-7 0123456789abcdef\noperator fedcba9876543210 admin\n\
        cell sha256:9f:86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 admin\n";

    fn certificate(text: &[u8]) -> Peer {
        Peer { name: "192.0.2.1".into(), certificate: Some(Sha256::digest(text).into()) }
    }

    #[test]
    fn callers_are_known_by_token_or_certificate() {
        let access = Access::parse(FILE).unwrap();
        let nobody = Peer { name: "192.0.2.1".into(), certificate: None };
        let with = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        let who = |headers: &HeaderMap, peer: &Peer| {
            access.caller(headers, peer).map(|c| (c.name, c.role)).map_err(|e| e.message)
        };
        let is = |name: &str, role| Ok((name.to_string(), role));
        assert_eq!(who(&with("Bearer 0123456789abcdef"), &nobody), is("line-7", Role::Infer));
        assert_eq!(who(&with("bearer  fedcba9876543210 "), &nobody), is("operator", Role::Admin));
        assert_eq!(who(&HeaderMap::new(), &certificate(b"test")), is("cell", Role::Admin));
        assert_eq!(who(&HeaderMap::new(), &certificate(b"a")).unwrap().1, Role::Infer);
        for (headers, peer) in [
            (with("Bearer 0123456789abcdee"), certificate(b"test")),
            (with("Bearer "), nobody.clone()),
            (with("Basic 0123456789abcdef"), nobody.clone()),
            (with("B"), nobody.clone()),
            (HeaderMap::new(), nobody.clone()),
        ] {
            let refused = access.caller(&headers, &peer).unwrap_err();
            assert_eq!(refused.kind, Kind::Unauthenticated, "{headers:?}");
            assert!(!refused.message.contains("0123"), "a message told a token");
        }
    }

    #[test]
    fn files_that_are_wrong_say_where() {
        for (text, line, why) in [
            ("", 1, "nobody"),
            ("# only\n", 1, "nobody"),
            ("a 0123456789abcdef\nb short", 2, "16"),
            ("a 0123456789abcdef root", 1, "infer or admin"),
            ("a", 1, "a name"),
            ("a b c d", 1, "a name"),
            ("a sha256:12", 1, "64"),
        ] {
            let (at, message) = Access::parse(text).unwrap_err();
            assert!(at == line && message.contains(why), "{text:?}: {at} {message}");
        }
    }
}
