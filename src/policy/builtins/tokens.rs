//! JSON Web Tokens (RFC 7519): `io.jwt.decode`, `io.jwt.verify_*`, `io.jwt.decode_verify`, as OPA has them.
//!
//! Time comes from the call, as all time does. Not here: `ES512`, whose curve `ring` does not have, and signing.

use anyhow::{Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regorus::Value;
use ring::{hmac, signature};
use rustls_pki_types::pem::{SectionKind, SliceIter as PemSliceIter};
use serde_json::Value as Json;
use spki::SubjectPublicKeyInfoRef;
use spki::der::asn1::AnyRef;
use spki::der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};

use super::{MOMENT, take, text};
use crate::json::{self, Object};
use crate::policy::value::{self, type_name};

/// URL-safe base64, padded or not, with whatever bits are left over at its end, as OPA reads it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
/// Tokens within tokens.
const MAX_NESTED: usize = 8;
/// Keys of one set that are tried.
const MAX_KEYS: usize = 64;
const NS_PER_S: f64 = 1e9;

/// A signature algorithm of RFC 7518 §3.1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    fn keyed(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }
}

/// A public key, and what its JWK says about it.
struct Key {
    material: Material,
    id: Option<String>,
    algorithm: Option<String>,
}

enum Material {
    /// `RSAPublicKey` of RFC 8017, in DER.
    Rsa(Vec<u8>),
    RsaParts {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    /// A key nothing here can use.
    Other,
}

impl Material {
    fn verifies(&self, algorithm: Algorithm, message: &[u8], signed: &[u8]) -> bool {
        let verify = |with: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(with, key).verify(message, signed).is_ok()
        };
        match (self, algorithm) {
            (Self::Rsa(key), _) => algorithm.rsa().is_some_and(|with| verify(with, key)),
            (Self::RsaParts { n, e }, _) => algorithm.rsa().is_some_and(|with| {
                signature::RsaPublicKeyComponents { n, e }.verify(with, message, signed).is_ok()
            }),
            (Self::P256(key), Algorithm::Es256) => verify(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Self::P384(key), Algorithm::Es384) => verify(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Self::Ed25519(key), Algorithm::EdDsa) => verify(&signature::ED25519, key),
            _ => false,
        }
    }
}

/// A token, taken apart.
struct Token<'a> {
    header: Object,
    payload: &'a str,
    signature: &'a str,
    /// What is signed.
    signed: &'a str,
}

impl<'a> Token<'a> {
    fn read(name: &str, token: &'a str) -> Result<Self> {
        let parts: Vec<&str> = token.split('.').collect();
        let &[header, payload, signature] = parts.as_slice() else {
            bail!("`{name}`: a token has 3 sections separated by `.`, not {}", parts.len());
        };
        let header = object(name, "header", &decoded(name, "header", header)?)?;
        if header.contains_key("enc") {
            bail!("`{name}`: the token is encrypted (JWE), which is not supported");
        }
        let signed = token.get(..token.len() - signature.len() - 1).unwrap_or_default();
        Ok(Self { header, payload, signature, signed })
    }

    fn field(&self, key: &str) -> Option<&str> {
        self.header.get(key).and_then(Json::as_str)
    }

    fn is_nested(&self) -> bool {
        self.field("cty").is_some_and(|kind| kind.eq_ignore_ascii_case("JWT"))
    }
}

/// `[header, payload, signature in hex]`; the innermost where tokens are nested.
pub(super) fn decode(args: &[Value]) -> Result<Value> {
    let name = "io.jwt.decode";
    let [token] = take(name, args)?;
    let mut written = text(name, token)?.to_owned();
    for _ in 0..MAX_NESTED {
        let token = Token::read(name, &written)?;
        let payload = decoded(name, "payload", token.payload)?;
        if token.is_nested() {
            written = unquoted(name, payload)?;
            continue;
        }
        let payload = object(name, "payload", &payload)?;
        let signature = hex::encode(decoded(name, "signature", token.signature)?);
        let parts = [Json::Object(token.header), Json::Object(payload), Json::String(signature)];
        return Ok(value::from_json(&Json::from(parts.to_vec())));
    }
    bail!("`{name}`: tokens are nested more than {MAX_NESTED} deep")
}

/// Whether the signature is right for a key: a secret for `HS…`, else a certificate or public key as PEM, a JWK or a
/// set of them. Claims are not looked at.
pub(super) fn verify(name: &str, algorithm: Algorithm, args: &[Value]) -> Result<Value> {
    let [token, key] = take(name, args)?;
    let token = Token::read(name, text(name, token)?)?;
    let signature = decoded(name, "signature", token.signature)?;
    let key = text(name, key)?;
    let message = token.signed.as_bytes();
    if let Some(with) = algorithm.keyed() {
        let verified = hmac::verify(&hmac::Key::new(with, key.as_bytes()), message, &signature).is_ok();
        return Ok(Value::from(verified));
    }
    let keys = keys(name, key)?;
    let fits = |key: &&Key| key.algorithm.as_deref().is_none_or(|named| named == algorithm.name());
    let verified = keys.iter().filter(fits).any(|key| key.material.verifies(algorithm, message, &signature));
    Ok(Value::from(verified))
}

/// What `io.jwt.decode_verify` demands of a token.
struct Constraints {
    keys: Option<Vec<Key>>,
    secret: Option<String>,
    alg: Option<String>,
    iss: Option<String>,
    aud: Option<String>,
    /// Seconds since 1970.
    time: f64,
}

impl Constraints {
    fn read(name: &str, operand: &Value) -> Result<Self> {
        let Value::Object(fields) = operand else {
            bail!("`{name}` expects an object of constraints. Got {} instead", type_name(operand));
        };
        let mut found = Self { keys: None, secret: None, alg: None, iss: None, aud: None, time: 0.0 };
        let mut time = None;
        for (key, field) in fields.iter() {
            let owned = || text(name, field).map(str::to_owned);
            match text(name, key)? {
                "cert" => found.keys = Some(keys(name, text(name, field)?)?),
                "secret" => found.secret = Some(owned()?),
                "alg" => found.alg = Some(owned()?),
                "iss" => found.iss = Some(owned()?),
                "aud" => found.aud = Some(owned()?),
                "time" => {
                    let at = value::to_json(field).as_f64();
                    let at = at.ok_or_else(|| anyhow!("`{name}`: `time` must be a number"))?;
                    if at < 0.0 {
                        bail!("`{name}`: `time` must not be negative");
                    }
                    time = Some(at);
                }
                other => bail!("`{name}` has no constraint `{other}`"),
            }
        }
        if found.keys.is_some() == found.secret.is_some() {
            bail!("`{name}` needs either `cert` or `secret`");
        }
        if let Some(alg) = found.alg.as_deref().filter(|alg| Algorithm::named(alg).is_none()) {
            bail!("`{name}`: there is no algorithm `{alg}`");
        }
        let now = || {
            let (_, now) =
                MOMENT.get().ok_or_else(|| anyhow!("there is no call whose time `{name}` could use"))?;
            Json::from(now).as_f64().ok_or_else(|| anyhow!("`{name}` cannot use the call's time"))
        };
        found.time = time.map_or_else(now, Ok)? / NS_PER_S;
        Ok(found)
    }

    fn verify(&self, name: &str, token: &Token<'_>, signature: &[u8]) -> Result<bool> {
        let Some(alg) = token.field("alg") else { return Ok(false) };
        let Some(algorithm) = Algorithm::named(alg) else { bail!("`{name}`: there is no algorithm `{alg}`") };
        let message = token.signed.as_bytes();
        if let Some(secret) = &self.secret {
            let with = algorithm.keyed().map(|with| hmac::Key::new(with, secret.as_bytes()));
            return Ok(with.is_some_and(|key| hmac::verify(&key, message, signature).is_ok()));
        }
        let keys = self.keys.as_deref().unwrap_or_default();
        let verifies = |key: &Key| key.material.verifies(algorithm, message, signature);
        if let Some(key) =
            token.field("kid").and_then(|id| keys.iter().find(|key| key.id.as_deref() == Some(id)))
        {
            return Ok(verifies(key));
        }
        let fits = |key: &&Key| key.algorithm.as_deref().is_none_or(|named| named == alg);
        Ok(keys.iter().filter(fits).any(verifies))
    }

    /// The registered claims (RFC 7519 §4.1).
    fn accept(&self, name: &str, claims: &Object) -> Result<bool> {
        if self.iss.is_some() && claims.get("iss").and_then(Json::as_str) != self.iss.as_deref() {
            return Ok(false);
        }
        let audience = match (claims.get("aud"), &self.aud) {
            (None, None) => true,
            (Some(Json::String(one)), Some(wanted)) => one == wanted,
            (Some(Json::Array(many)), Some(wanted)) => many.iter().any(|one| one.as_str() == Some(wanted)),
            _ => false,
        };
        let seconds = |claim: &str| match claims.get(claim) {
            None => Ok(None),
            Some(Json::Number(number)) => Ok(number.as_f64()),
            Some(_) => Err(anyhow!("`{name}`: the claim `{claim}` must be a number")),
        };
        let expired = seconds("exp")?.is_some_and(|at| self.time >= at);
        let early = seconds("nbf")?.is_some_and(|at| self.time < at);
        Ok(audience && !expired && !early)
    }
}

/// `[true, header, payload]` where signature and claims hold, else `[false, {}, {}]`.
pub(super) fn decode_verify(args: &[Value]) -> Result<Value> {
    let name = "io.jwt.decode_verify";
    let [token, constraints] = take(name, args)?;
    let constraints = Constraints::read(name, constraints)?;
    let answer = |verified: bool, header: Object, payload: Object| {
        let parts = [Json::Bool(verified), Json::Object(header), Json::Object(payload)];
        Ok(value::from_json(&Json::from(parts.to_vec())))
    };
    let mut written = text(name, token)?.to_owned();
    for _ in 0..MAX_NESTED {
        let token = Token::read(name, &written)?;
        // RFC 7515 §4.1.11: what must be understood is not, since nothing is.
        let wanted = constraints.alg.as_deref().is_none_or(|alg| token.field("alg") == Some(alg));
        if !wanted || token.header.contains_key("crit") || token.field("alg").is_none() {
            return answer(false, Object::new(), Object::new());
        }
        let signature = decoded(name, "signature", token.signature)?;
        if !constraints.verify(name, &token, &signature)? {
            return answer(false, Object::new(), Object::new());
        }
        let payload = decoded(name, "payload", token.payload)?;
        if token.is_nested() {
            written = unquoted(name, payload)?;
            continue;
        }
        let claims = object(name, "payload", &payload)?;
        return if constraints.accept(name, &claims)? {
            answer(true, token.header, claims)
        } else {
            answer(false, Object::new(), Object::new())
        };
    }
    bail!("`{name}`: tokens are nested more than {MAX_NESTED} deep")
}

fn decoded(name: &str, part: &str, written: &str) -> Result<Vec<u8>> {
    BASE64.decode(written).map_err(|error| anyhow!("`{name}`: the {part} is not base64url: {error}"))
}

/// A JSON object of a token. Duplicate keys are legal there, the last counts (RFC 7519 §4).
fn object(name: &str, part: &str, bytes: &[u8]) -> Result<Object> {
    serde_json::from_slice(bytes).map_err(|error| anyhow!("`{name}`: the {part} is no JSON object: {error}"))
}

/// A nested token, which may stand in quotes.
fn unquoted(name: &str, payload: Vec<u8>) -> Result<String> {
    let payload =
        String::from_utf8(payload).map_err(|_| anyhow!("`{name}`: the nested token is not UTF-8"))?;
    Ok(payload.trim_matches('"').to_owned())
}

fn keys(name: &str, written: &str) -> Result<Vec<Key>> {
    if written.trim_start().starts_with("-----BEGIN") {
        let key = |material| Key { material, id: None, algorithm: None };
        return Ok(vec![key(from_pem(name, written)?)]);
    }
    let wrong = || anyhow!("`{name}` expects a certificate or public key as PEM, a JWK, or a set of JWKs");
    let read = json::parse(written.as_bytes()).map_err(|_| wrong())?;
    let many = match read.get("keys") {
        Some(keys) => keys.as_array().ok_or_else(wrong)?.as_slice(),
        None => std::slice::from_ref(&read),
    };
    if many.len() > MAX_KEYS {
        bail!("`{name}` takes at most {MAX_KEYS} keys");
    }
    many.iter().map(|key| from_jwk(key).ok_or_else(wrong)).collect()
}

fn from_pem(name: &str, written: &str) -> Result<Material> {
    let wrong =
        || anyhow!("`{name}` cannot read a key from this PEM; it takes `CERTIFICATE` and `PUBLIC KEY`");
    let mut sections = PemSliceIter::<(SectionKind, Vec<u8>)>::new(written.as_bytes());
    let Some(Ok((kind, der))) = sections.next() else { return Err(wrong()) };
    if !sections.remainder().trim_ascii().is_empty() {
        bail!("`{name}` takes one PEM block, and something follows it");
    }
    let info = match kind {
        SectionKind::PublicKey => SubjectPublicKeyInfoRef::from_der(&der).ok(),
        SectionKind::Certificate => key_of_certificate(&der),
        _ => None,
    };
    let info = info.ok_or_else(wrong)?;
    let key = info.subject_public_key.raw_bytes().to_vec();
    let curve = info.algorithm.parameters_oid().map(|oid| oid.to_string());
    Ok(match (info.algorithm.oid.to_string().as_str(), curve.as_deref()) {
        // rsaEncryption; ecPublicKey on P-256 and P-384; Ed25519.
        ("1.2.840.113549.1.1.1", _) => Material::Rsa(key),
        ("1.2.840.10045.2.1", Ok("1.2.840.10045.3.1.7")) => Material::P256(key),
        ("1.2.840.10045.2.1", Ok("1.3.132.0.34")) => Material::P384(key),
        ("1.3.101.112", _) => Material::Ed25519(key),
        _ => Material::Other,
    })
}

/// The seventh field of a certificate's first part (RFC 5280 §4.1); the sixth where it has no version. Nothing else of the
/// certificate matters here, its dates and signature included: an author who writes it down trusts it.
fn key_of_certificate(der: &[u8]) -> Option<SubjectPublicKeyInfoRef<'_>> {
    fn parts(sequence: AnyRef<'_>) -> Option<Vec<AnyRef<'_>>> {
        sequence.tag().assert_eq(Tag::Sequence).ok()?;
        let mut reader = SliceReader::new(sequence.value()).ok()?;
        std::iter::from_fn(|| (!reader.is_finished()).then(|| AnyRef::decode(&mut reader).ok())).collect()
    }
    let certificate = parts(AnyRef::from_der(der).ok()?)?;
    let fields = parts(*certificate.first()?)?;
    let versioned = fields.first()?.tag().is_context_specific();
    fields.get(if versioned { 6 } else { 5 })?.decode_as().ok()
}

/// A JWK (RFC 7517); `None` where it is none.
fn from_jwk(jwk: &Json) -> Option<Key> {
    let field = |key: &str| jwk.get(key).and_then(Json::as_str);
    let bytes = |key: &str| BASE64.decode(field(key)?).ok();
    let point = || Some([&[4][..], &bytes("x")?, &bytes("y")?].concat());
    let material = match field("kty")? {
        "RSA" => Material::RsaParts { n: bytes("n")?, e: bytes("e")? },
        "EC" => match field("crv")? {
            "P-256" => Material::P256(point()?),
            "P-384" => Material::P384(point()?),
            _ => Material::Other,
        },
        "OKP" if field("crv")? == "Ed25519" => Material::Ed25519(bytes("x")?),
        "OKP" | "oct" => Material::Other,
        _ => return None,
    };
    Some(Key { material, id: field("kid").map(str::to_owned), algorithm: field("alg").map(str::to_owned) })
}
