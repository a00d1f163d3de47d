//! TLS, client certificates, tokens, roles, and what a reload changes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akida_serve::net::{Listener, Options, Server, Serves, Socket, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::scripted::{Bench, Scripted};
use crate::wire::{Reply, ask, connect, get, parse, read_all, request};

const TOKENS: &str = "line 0123456789abcdef\noperator fedcba9876543210 admin\n";
const INFER: &str = "/v2/models/double/infer";
const BODY: &[u8] = br#"{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}"#;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// A certificate for `name`, as `NAME.crt` and `NAME.key`.
    fn issue(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (crt, pem) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        fs::write(&crt, certificate.pem()).unwrap();
        fs::write(&pem, key.serialize_pem()).unwrap();
        (crt, pem)
    }
}

/// One request over TLS; the error when there is no connection.
fn ask_tls(
    bench: &Bench,
    roots: &str,
    client: Option<&(PathBuf, PathBuf)>,
    headers: &[(&str, &str)],
) -> Result<Reply, String> {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from_pem_slice(roots.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(store);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((crt, key)) => {
            let chain = vec![CertificateDer::from_pem_file(crt).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, connect(bench.address));
    stream.write_all(&request("POST", INFER, headers, BODY)).map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match std::io::Read::read(&mut stream, &mut piece) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(e) if all.is_empty() => return Err(e.to_string()),
            // No closing word of TLS; the answer's own length says whether it is whole.
            Err(_) => break,
        }
    }
    if all.is_empty() { Err("closed".into()) } else { Ok(parse(&all)) }
}

#[test]
fn tokens_and_roles() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access");
    fs::write(&file, TOKENS).unwrap();
    let bench = Bench::new(Options { access: Some(file.clone()), ..Options::default() });
    let status = |method, path, token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
        ask(bench.address, method, path, headers, if method == "GET" { b"" } else { BODY }).status
    };
    let load = "/v2/repository/models/double/load";
    for (method, path, none, wrong, infer, admin) in [
        ("POST", INFER, 401, 401, 200, 200),
        ("GET", "/v2/models/double", 401, 401, 200, 200),
        ("GET", "/nothing", 401, 401, 404, 404),
        ("GET", "/v2/health/ready", 200, 200, 200, 200),
    ] {
        let got = ["", "0123456789abcdeX", "0123456789abcdef", "fedcba9876543210"].map(|t| status(method, path, t));
        assert_eq!(got, [none, wrong, infer, admin], "{path}");
    }
    let empty = |token: &str| {
        let bearer = format!("Bearer {token}");
        ask(bench.address, "POST", load, &[("authorization", &bearer)], b"")
    };
    let refused = empty("0123456789abcdef");
    assert_eq!(refused.status, 403);
    assert!(refused.error().contains("'line' may infer"), "{}", refused.error());
    assert_eq!(empty("fedcba9876543210").status, 200);
    assert_eq!(ask(bench.address, "GET", "/v2", &[], b"").header("www-authenticate"), Some("Bearer"));
    assert_eq!(bench.service.seen.lock().unwrap()[0].client, "line");

    // A reload changes who is known; a file that is wrong changes nothing.
    let server = bench.server.as_ref().unwrap();
    fs::write(&file, "line 0123456789abcdef nobody").unwrap();
    assert!(server.reload().unwrap_err().contains("line 1"));
    assert_eq!(status("POST", INFER, "0123456789abcdef"), 200);
    fs::write(&file, "line aaaaaaaaaaaaaaaa").unwrap();
    server.reload().unwrap();
    assert_eq!(["0123456789abcdef", "aaaaaaaaaaaaaaaa"].map(|t| status("POST", INFER, t)), [401, 200]);
}

#[test]
fn calls_of_grpc_need_tokens_too() {
    use akida_serve::proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
    use akida_serve::proto::inference::{RepositoryModelLoadRequest, ServerMetadataRequest, ServerReadyRequest};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access");
    fs::write(&file, TOKENS).unwrap();
    let bench = Bench::new(Options { access: Some(file), ..Options::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::new(format!("http://{}", bench.address)).unwrap().connect().await;
        let mut client = GrpcInferenceServiceClient::new(channel.unwrap());
        assert!(client.server_ready(ServerReadyRequest {}).await.is_ok());
        let refused = client.server_metadata(ServerMetadataRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        for (token, code) in
            [("0123456789abcdef", tonic::Code::PermissionDenied), ("fedcba9876543210", tonic::Code::Ok)]
        {
            let load = RepositoryModelLoadRequest { model_name: "double".into(), ..Default::default() };
            let mut call = tonic::Request::new(load);
            call.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            let got = client.repository_model_load(call).await.map_or_else(|e| e.code(), |_| tonic::Code::Ok);
            assert_eq!(got, code);
        }
    });
}

#[test]
fn repository_control_can_be_refused_to_all() {
    let bench = Bench::new(Options { no_repository_control: true, ..Options::default() });
    assert_eq!(ask(bench.address, "POST", "/v2/repository/models/double/load", &[], b"").status, 403);
    assert_eq!(ask(bench.address, "POST", INFER, &[], BODY).status, 200);
}

#[test]
fn tls_with_and_without_client_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue(folder.path(), "server");
    let known = ours.issue(folder.path(), "client");
    let stranger = others.issue(folder.path(), "stranger");
    let client_ca = folder.path().join("ca.crt");
    fs::write(&client_ca, ours.issuer.pem()).unwrap();
    let files = TlsFiles { certificate: certificate.clone(), key: key.clone(), client_ca: None };
    let plain = Bench::new(Options { tls: Some(files.clone()), ..Options::default() });
    let roots = ours.issuer.pem();
    assert_eq!(ask_tls(&plain, &roots, None, &[]).unwrap().status, 200);
    assert!(ask_tls(&plain, &others.issuer.pem(), None, &[]).is_err());
    // Who speaks no TLS gets no answer; metrics are plain.
    let mut stream = connect(plain.address);
    stream.write_all(&request("GET", "/v2", &[], b"")).unwrap();
    assert!(!read_all(&mut stream).starts_with(b"HTTP"));
    assert_eq!(get(plain.status, "/ready").status, 200);

    // A certificate is needed where there is an authority and no tokens.
    let mutual = TlsFiles { client_ca: Some(client_ca), ..files.clone() };
    let bench = Bench::new(Options { tls: Some(mutual.clone()), ..Options::default() });
    assert_eq!(ask_tls(&bench, &roots, Some(&known), &[]).unwrap().status, 200);
    assert!(ask_tls(&bench, &roots, None, &[]).is_err());
    assert!(ask_tls(&bench, &roots, Some(&stranger), &[]).is_err());
    let who = bench.service.seen.lock().unwrap()[0].client.clone();
    assert!(who.starts_with("certificate:"), "{who}");

    // With tokens either will do, and the file gives a certificate its name.
    let access = folder.path().join("access");
    let digest = Sha256::digest(CertificateDer::from_pem_file(&known.0).unwrap());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    fs::write(&access, format!("{TOKENS}cell sha256:{hex}\n")).unwrap();
    let both = Bench::new(Options { tls: Some(mutual), access: Some(access), ..Options::default() });
    assert_eq!(ask_tls(&both, &roots, Some(&known), &[]).unwrap().status, 200);
    assert_eq!(ask_tls(&both, &roots, None, &[]).unwrap().status, 401);
    let token = [("authorization", "Bearer 0123456789abcdef")];
    assert_eq!(ask_tls(&both, &roots, None, &token).unwrap().status, 200);
    let clients: Vec<_> = both.service.seen.lock().unwrap().iter().map(|r| r.client.clone()).collect();
    assert_eq!(clients, ["cell", "line"]);

    // A new certificate is taken on a reload, a wrong one is not.
    let server = plain.server.as_ref().unwrap();
    fs::write(&certificate, "no certificate").unwrap();
    assert!(server.reload().unwrap_err().contains("server.crt"));
    assert_eq!(ask_tls(&plain, &roots, None, &[]).unwrap().status, 200);
    others.issue(folder.path(), "server");
    server.reload().unwrap();
    assert!(ask_tls(&plain, &roots, None, &[]).is_err());
    assert_eq!(ask_tls(&plain, &others.issuer.pem(), None, &[]).unwrap().status, 200);
    // Key and certificate of different pairs.
    ours.issue(folder.path(), "other");
    fs::copy(folder.path().join("other.key"), &key).unwrap();
    assert!(server.reload().unwrap_err().contains("do not belong together"));
}

#[test]
fn unix_sockets() {
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("akida.sock");
    let service = Arc::new(Scripted::default());
    let start = || {
        let socket = Socket::unix(&path)?;
        let listener = Listener { socket, serves: Serves::Both };
        Ok::<_, std::io::Error>(Server::start(service.clone(), [listener], Options::default()).unwrap())
    };
    let first = start().unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    stream.write_all(&request("POST", INFER, &[], BODY)).unwrap();
    assert_eq!(parse(&read_all(&mut stream)).status, 200);
    let who = service.seen.lock().unwrap()[0].client.clone();
    assert!(who.starts_with("uid:"), "{who}");
    // Somebody listens there; then nobody does, and the socket that is left is replaced.
    assert_eq!(start().err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    first.drain(std::time::Duration::from_secs(5));
    start().unwrap().drain(std::time::Duration::ZERO);
    // What is no socket stays.
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(Socket::unix(&file).is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn each_port_speaks_its_protocol() {
    let service = Arc::new(Scripted::default());
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener { socket: Socket::Tcp(socket), serves: Serves::Grpc };
    let server = Server::start(service, [listener], Options::default()).unwrap();
    let reply = get(address, "/v2");
    assert_eq!(reply.status, 404);
    assert!(reply.error().contains("this port speaks gRPC"), "{}", reply.error());
    server.drain(std::time::Duration::ZERO);
}

#[test]
fn akida_bench_over_tls() {
    use akida_serve::load;
    use clap::Parser;
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(), Authority::new());
    let (certificate, key) = ours.issue(folder.path(), "server");
    let [right, wrong] = [(&ours, "right"), (&others, "wrong")].map(|(authority, name)| {
        let file = folder.path().join(name);
        fs::write(&file, authority.issuer.pem()).unwrap();
        file.to_str().unwrap().to_owned()
    });
    let tls = Some(TlsFiles { certificate, key, client_ca: None });
    let bench = Bench::new(Options { tls, ..Options::default() });
    let run = |scheme: &str, more: &[&str]| {
        let url = format!("{scheme}://localhost:{}", bench.address.port());
        let fixed = ["akida-bench", &url, "double", "--seconds", "0.2", "--warmup", "0", "--format", "json"];
        let args = load::Args::try_parse_from([&fixed[..], more].concat()).unwrap();
        let mut out = Vec::new();
        load::run(&args, &mut out).map(|_| serde_json::from_slice::<serde_json::Value>(&out).unwrap())
    };
    for (scheme, more) in [("https", &[][..]), ("grpcs", &[]), ("grpcs", &["--stream"])] {
        let report = run(scheme, &[&["--ca", &right], more].concat()).unwrap();
        assert!(report["requests"].as_u64().unwrap() > 0 && report["failures"] == 0, "{scheme} {more:?}: {report}");
    }
    for (scheme, more, part) in [
        ("https", &["--ca", &wrong][..], "certificate"),
        ("grpcs", &["--ca", &wrong], "certificate"),
        ("https", &[], "--ca FILE"),
        ("http", &["--ca", &right], "--ca is for TLS"),
        ("https", &["--ca", "/nowhere.pem"], "/nowhere.pem"),
    ] {
        let refused = run(scheme, more).unwrap_err().to_string();
        assert!(refused.contains(part), "{scheme} {more:?}: {refused}");
    }
}
