//! The API as a contract: the documents that are checked in, what is answered without a token, tags, origins and tiles.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ct_merkle::HashableLeaf;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use docket::api::contract::{self, Side};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Docket, POLICY};

/// The files that say to those who have no docket what it answers. `BLESS=1` writes them anew.
#[test]
fn documents_are_those_of_the_code() {
    let documents = [
        ("docs/openapi/admin.json", contract::text(Side::Admin)),
        ("docs/openapi/data.json", contract::text(Side::Data)),
        ("docs/problems.md", contract::markdown()),
    ];
    for (path, text) in documents {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let checked_in = std::fs::read_to_string(&file).unwrap();
        assert!(
            checked_in == text,
            "`{path}` is not what the code says: `BLESS=1 cargo test contract` writes it"
        );
    }
}

#[tokio::test]
async fn the_contract_needs_no_token_and_problem_types_resolve() {
    let docket = Docket::start().await;
    for (plane, side) in [(&docket.admin, Side::Admin), (&docket.data, Side::Data)] {
        let answer = docket.client.get(format!("{plane}/v1/openapi.json")).send().await.unwrap();
        let tag = answer.headers()["etag"].clone();
        assert_eq!(answer.json::<Value>().await.unwrap(), contract::document(side));
        let again = docket.client.get(format!("{plane}/v1/openapi.json")).header("if-none-match", tag);
        assert_eq!(again.send().await.unwrap().status(), 304);
        let wrong = docket.client.post(format!("{plane}/v1/openapi.json")).send().await.unwrap();
        assert_eq!(
            (wrong.status().as_u16(), &wrong.headers()["allow"]),
            (405, &"GET, HEAD".parse().unwrap())
        );
        // Whatever is refused names a section of a page that is there.
        let refused = docket.client.get(format!("{plane}/nowhere")).bearer_auth("x").send().await.unwrap();
        let (base, problem) = (refused.url().clone(), refused.json::<Value>().await.unwrap());
        let described = base.join(problem["type"].as_str().unwrap()).unwrap();
        let page = docket.client.get(described.clone()).send().await.unwrap().text().await.unwrap();
        let section = format!("<section id=\"{}\">", described.fragment().unwrap());
        assert!(page.contains(&section), "{described}: {page}");
    }
    docket.stop().await;
}

#[tokio::test]
async fn policies_have_tags_and_stay_readable_by_their_digests() {
    let docket = Docket::start().await;
    docket.evaluate("r-1", "echo", json!({})).await;
    let answer = docket.admin_get("/v1/policies").await;
    let (tag, kept) = (answer.headers()["etag"].clone(), answer.headers()["cache-control"].clone());
    assert_eq!(kept, "private, no-cache");
    let in_force: Value = answer.json().await.unwrap();
    let manifest = in_force["policy_set"]["manifest_sha"].as_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{manifest}\""));
    assert_eq!(in_force["policies"][0]["policy_id"], "test.tools");
    let known = docket.client.get(format!("{}/v1/policies", docket.admin)).bearer_auth(&docket.token);
    let known = known.header("if-none-match", tag).send().await.unwrap();
    assert_eq!((known.status().as_u16(), known.text().await.unwrap().as_str()), (304, ""));

    let digest = in_force["files"][0]["digest"].as_str().unwrap();
    let file = docket.admin_get(&format!("/v1/policies/files/{digest}")).await;
    assert_eq!(file.headers()["cache-control"], "private, max-age=31536000, immutable");
    assert_eq!(file.text().await.unwrap(), POLICY);
    let bytes = docket.admin_get(&format!("/v1/policies/files/{manifest}")).await.bytes().await.unwrap();
    assert_eq!(format!("sha256:{}", hex::encode(Sha256::digest(&bytes))), manifest);
    assert_eq!(docket.admin_get("/v1/policies/files/sha256:00").await.status(), 404);
    // Generated clients encode whatever they may (RFC 3986 §2.1); what cannot be decoded is nowhere.
    let encoded = format!("/v1/policies/files/{}", digest.replace(':', "%3A"));
    assert_eq!(docket.admin_get(&encoded).await.text().await.unwrap(), POLICY);
    docket.evaluate("a:b", "echo", json!({})).await;
    assert_eq!(docket.admin_get("/v1/explain/a%3Ab").await.status(), 200);
    for path in ["/v1/explain/%ff", "/v1/explain/%", "/v1/audit%2Fstats%00", "/v1/explain/a%253Ab"] {
        assert_eq!(docket.admin_get(path).await.status(), 404, "{path}");
    }
    docket.stop().await;
}

#[derive(Clone)]
struct Leaf(Vec<u8>);

impl HashableLeaf for Leaf {
    fn hash<H: ct_merkle::digest::Update>(&self, hasher: &mut H) {
        hasher.update(&self.0);
    }
}

#[tokio::test]
async fn tiles_are_the_tree_of_the_checkpoint() {
    let docket = Docket::start().await;
    for number in 0..300 {
        docket.evaluate(&format!("r-{number}"), "echo", json!({})).await;
    }
    let note = docket.admin_get("/v1/tlog/checkpoint").await.text().await.unwrap();
    let lines: Vec<&str> = note.lines().collect();
    let size: usize = lines[1].parse().unwrap();
    assert!((300..512).contains(&size), "{size}");
    let partial = size - 256;

    // The leaves, as another implementation of RFC 6962 hashes them.
    let mut leaves = Vec::new();
    for path in ["entries/000".to_owned(), format!("entries/001.p/{partial}")] {
        let bundle = docket.admin_get(&format!("/v1/tlog/tile/{path}")).await;
        assert_eq!(bundle.headers()["cache-control"], "no-store");
        let bytes = bundle.bytes().await.unwrap();
        let mut rest = bytes.as_ref();
        while let [high, low, after @ ..] = rest {
            let (leaf, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            leaves.push(leaf.to_vec());
            rest = after;
        }
    }
    assert_eq!(leaves.len(), size);
    let root_of = |leaves: &[Vec<u8>]| {
        let mut tree = MemoryBackedTree::<Sha256, Leaf>::new();
        leaves.iter().for_each(|leaf| tree.push(Leaf(leaf.clone())));
        tree.root().as_bytes().to_vec()
    };
    assert_eq!(STANDARD.encode(root_of(&leaves)), lines[2]);

    // The hashes: of each leaf, and of all 256 below a full tile.
    let mut hashes = Vec::new();
    for path in ["0/000".to_owned(), format!("0/001.p/{partial}")] {
        let tile = docket.admin_get(&format!("/v1/tlog/tile/{path}")).await;
        assert_eq!(tile.headers()["cache-control"], "private, max-age=31536000, immutable");
        assert!(tile.headers().contains_key("etag"));
        hashes.extend(tile.bytes().await.unwrap().chunks(32).map(<[u8]>::to_vec).collect::<Vec<_>>());
    }
    let expected: Vec<Vec<u8>> = leaves
        .iter()
        .map(|leaf| Sha256::new().chain_update([0]).chain_update(leaf).finalize().to_vec())
        .collect();
    assert_eq!(hashes, expected);
    let encoded = docket.admin_get("/v1/tlog/tile/0/000.p%2F7").await;
    assert_eq!(encoded.bytes().await.unwrap().len(), 7 * 32);
    let above = docket.admin_get("/v1/tlog/tile/1/000.p/1").await.bytes().await.unwrap();
    assert_eq!(above.to_vec(), root_of(&leaves[..256]));

    for path in
        ["0/002", "0/001", "1/000", "1/000.p/2", "0/000.p/0", "entries/001", "8/000", "x/000", "0/0000"]
    {
        assert_eq!(docket.admin_get(&format!("/v1/tlog/tile/{path}")).await.status(), 404, "{path}");
    }
    docket.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_read_nothing_unless_they_are_named() {
    let cors = |headers: &reqwest::header::HeaderMap| -> BTreeMap<String, String> {
        let own = headers.iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
        own.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    };
    let named = "https://console.example";
    let toml = format!("admin.allowed_origins = [\"{named}\"]\ndata.allowed_origins = [\"{named}\"]\n");
    let (closed, open) = (Docket::start().await, Docket::with(&toml, POLICY).await);
    let ask = async |docket: &Docket, plane: &str, method: reqwest::Method, origin: &str| {
        let request = docket.client.request(method, format!("{plane}/v1/audit"));
        let request = request.header("origin", origin).header("access-control-request-method", "GET");
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), cors(answer.headers()))
    };
    let (get, options) = (reqwest::Method::GET, reqwest::Method::OPTIONS);
    for plane in [&closed.admin, &closed.data] {
        for origin in [named, "http://localhost:3000"] {
            for method in [&get, &options] {
                let (status, headers) = ask(&closed, plane, method.clone(), origin).await;
                assert!(status >= 400 && headers.is_empty(), "{method} {origin}: {status} {headers:?}");
            }
        }
    }
    for plane in [&open.admin, &open.data] {
        let (status, headers) = ask(&open, plane, options.clone(), named).await;
        assert_eq!((status, headers["access-control-allow-origin"].as_str()), (204, named));
        assert!(headers["access-control-allow-headers"].contains("Authorization"));
        // Without a token it is refused, and the page may read why.
        let (status, headers) = ask(&open, plane, get.clone(), named).await;
        assert!(status >= 400);
        assert_eq!(headers["access-control-allow-origin"], named);
        let (status, headers) = ask(&open, plane, options.clone(), "https://console.example.evil").await;
        assert_eq!((status, headers), (403, BTreeMap::new()));
    }
    closed.stop().await;
    open.stop().await;
}
