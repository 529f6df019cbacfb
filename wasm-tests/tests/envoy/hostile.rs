//! Headers that no ordinary client sends. None may trap the module: the worker would be lost.

use wasm_tests::client::send_raw;
use wasm_tests::upstream::ID;

use crate::fixture::{SECRET, both, new_id, run};

#[test]
fn odd_header_values_do_not_trap_the_module_and_do_not_pass_for_credentials() {
    let huge = vec![b'x'; 40_000];
    let cases: [(&str, Vec<u8>); 9] = [
        ("not UTF-8", b"authorization: \xff\xfe\x80\r\nx-api-key: \xc3\x28\r\ncookie: \xf0\x28\r\n".to_vec()),
        ("not UTF-8 elsewhere", b"x-other: \xff\xfe\r\nmcp-name: \xe9\r\n".to_vec()),
        ("empty", b"authorization:\r\nx-api-key: \r\ncookie:\r\n".to_vec()),
        (
            "twice",
            b"Authorization: a\r\nAUTHORIZATION: b\r\nauthorization: c\r\nX-Api-Key: d\r\nx-api-key: e\r\n".to_vec(),
        ),
        ("huge", [b"authorization: Bearer ", &huge[..], b"\r\n"].concat()),
        ("many", b"x-api-key: a\r\n".repeat(60)),
        ("other spelling", b"AuThOrIzAtIoN: a\r\nX-aPi-KeY: b\r\nCOOKIE: c\r\n".to_vec()),
        ("obsolete folding", b"authorization: a\r\n b\r\n".to_vec()),
        ("a list", b"authorization: Bearer a, Basic b\r\n".to_vec()),
    ];
    run(async {
        for (place, fixture) in both().await {
            for (name, headers) in &cases {
                for server in ["bearer", "query", "none"] {
                    let id = new_id();
                    let head = format!(
                        "POST /{server}/mcp?api_key=theirs HTTP/1.1\r\nhost: caller.example\r\nconnection: close\r\n{ID}: {id}\r\ncontent-length: 2\r\n"
                    );
                    let request = [head.as_bytes(), headers, b"\r\n{}"].concat();
                    let answer = send_raw(fixture.address, &request).await.unwrap();
                    let context = format!("{place}, {name}, {server}: {}", answer.lines().next().unwrap_or_default());
                    let seen = fixture.upstream.seen(&id);
                    assert!(answer.starts_with("HTTP/1.1 200"), "{context}");
                    let authorization = if server == "bearer" { vec![format!("Bearer {SECRET}")] } else { vec![] };
                    assert_eq!(seen[0].head.header("authorization"), authorization, "{context}");
                    assert_eq!(seen[0].head.header("x-api-key"), [""; 0], "{context}");
                    assert_eq!(seen[0].head.header("cookie"), [""; 0], "{context}");
                    assert_eq!(seen[0].body, "{}", "{context}");
                }
            }
            let log = fixture.envoy.log().unwrap();
            assert!(!log.contains("panicked") && !log.contains("Function: proxy_on"), "{place}:\n{log}");
        }
    });
}

#[test]
fn a_path_that_is_not_utf8_keeps_its_bytes_beside_the_key() {
    run(async {
        for (place, fixture) in both().await {
            let id = new_id();
            let request = [
                b"GET /query/mcp?a=\xff\xfe&api_key=\xfd HTTP/1.1\r\nhost: h\r\nconnection: close\r\n",
                format!("{ID}: {id}\r\n\r\n").as_bytes(),
            ]
            .concat();
            let answer = send_raw(fixture.address, &request).await.unwrap();
            // Envoy's HTTP/1 codec refuses such a path before any filter; if it ever lets one pass, the
            // module must not trap.
            assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.1 200"), "{place}: {answer}");
            assert!(!fixture.envoy.log().unwrap().contains("panicked"), "{place}");
        }
    });
}
