//! Digests and message authentication codes: `crypto.md5` … `crypto.hmac.sha512`, in hex.

use anyhow::{Result, anyhow};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use regorus::Value;
use ring::{digest, hmac as keyed};
use subtle::ConstantTimeEq;

use super::{take, text};

pub(super) fn md5(args: &[Value]) -> Result<Value> {
    let [message] = take("crypto.md5", args)?;
    Ok(Value::from(hex::encode(Md5::digest(text("crypto.md5", message)?))))
}

/// `crypto.sha1` and `crypto.sha256`.
pub(super) fn digest(name: &str, algorithm: &'static digest::Algorithm, args: &[Value]) -> Result<Value> {
    let [message] = take(name, args)?;
    Ok(Value::from(hex::encode(digest::digest(algorithm, text(name, message)?.as_bytes()))))
}

pub(super) fn hmac_md5(args: &[Value]) -> Result<Value> {
    let name = "crypto.hmac.md5";
    let [message, key] = take(name, args)?;
    let mac = Hmac::<Md5>::new_from_slice(text(name, key)?.as_bytes());
    let mut mac = mac.map_err(|_| anyhow!("`{name}` cannot use this key"))?;
    mac.update(text(name, message)?.as_bytes());
    Ok(Value::from(hex::encode(mac.finalize().into_bytes())))
}

/// `crypto.hmac.sha1`, `…sha256` and `…sha512`.
pub(super) fn hmac(name: &str, algorithm: keyed::Algorithm, args: &[Value]) -> Result<Value> {
    let [message, key] = take(name, args)?;
    let key = keyed::Key::new(algorithm, text(name, key)?.as_bytes());
    Ok(Value::from(hex::encode(keyed::sign(&key, text(name, message)?.as_bytes()))))
}

/// Compares without telling by its time how much was equal.
pub(super) fn hmac_equal(args: &[Value]) -> Result<Value> {
    let name = "crypto.hmac.equal";
    let [a, b] = take(name, args)?;
    Ok(Value::from(bool::from(text(name, a)?.as_bytes().ct_eq(text(name, b)?.as_bytes()))))
}
