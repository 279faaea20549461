//! Tokens, basic authentication, and who gets to see which credential.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::credentials::Credential;
use super::*;
use crate::error::Kind;

/// A registry that wants tokens of its own token service.
fn with_tokens(image: &Image, token: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Mock {
    let image = image.clone();
    Mock::start(move |seen| {
        if seen.path.starts_with("/token") {
            return token(seen);
        }
        if seen.header("authorization") == Some("Bearer good") {
            return image.answer(seen);
        }
        let host = seen.header("host").expect("host").to_owned();
        Reply::new(401)
            .header(
                "WWW-Authenticate",
                format!(r#"Bearer realm="http://{host}/token",service="svc",scope="x""#),
            )
            .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
    })
}

fn pull(registry: &Registry, mock: &Mock) -> crate::error::Result<super::super::Resolved> {
    let bench = Bench::new();
    registry.pull(
        &reference(&mock.address, "a/b:t"),
        &amd64(),
        &bench.blobs,
        &bench.vertex,
    )
}

#[test]
fn one_token_serves_a_whole_pull() {
    let image = Image::new(b"layer");
    let mock = with_tokens(&image, |_| {
        Reply::new(200).body(r#"{"token":"good","expires_in":300}"#)
    });
    pull(&registry_with(&mock.address, "user:p:w"), &mock).expect("pull");
    let seen = mock.seen();
    let tokens: Vec<_> = seen.iter().filter(|s| s.path.contains("token")).collect();
    assert_eq!(tokens.len(), 1, "{seen:?}");
    assert_eq!(
        tokens[0].path,
        "/token?service=svc&scope=repository%3Aa%2Fb%3Apull&client_id=sandcrab&account=user"
    );
    let basic = format!("Basic {}", STANDARD.encode("user:p:w"));
    assert_eq!(tokens[0].header("authorization"), Some(basic.as_str()));
    let shown_to_others = seen
        .iter()
        .filter(|s| !s.path.contains("token"))
        .any(|s| s.header("authorization") == Some(&basic));
    assert!(!shown_to_others);
}

#[test]
fn without_credentials_the_token_is_anonymous() {
    let image = Image::new(b"layer");
    let mock = with_tokens(&image, |_| {
        Reply::new(200).body(r#"{"access_token":"good"}"#)
    });
    pull(&registry(), &mock).expect("pull");
    let token = mock.seen().into_iter().find(|s| s.path.contains("token"));
    assert_eq!(token.expect("asked").header("authorization"), None);
}

#[test]
fn an_identity_token_is_exchanged() {
    let image = Image::new(b"layer");
    let mock = with_tokens(&image, |_| {
        Reply::new(200).body(r#"{"access_token":"good"}"#)
    });
    let mut options = options();
    options.credentials.inline = Some(Secret::new(
        json!({"auths": {&mock.address: {"identitytoken": "re&fresh"}}}).to_string(),
    ));
    pull(&Registry::new(options), &mock).expect("pull");
    let token = mock.seen().into_iter().find(|s| s.path == "/token");
    let token = token.expect("asked");
    assert_eq!(token.method, "POST");
    assert_eq!(
        String::from_utf8_lossy(&token.body),
        "grant_type=refresh_token&client_id=sandcrab&refresh_token=re%26fresh&service=svc\
         &scope=repository%3Aa%2Fb%3Apull"
    );
}

#[test]
fn a_revoked_token_is_replaced() {
    let image = Image::new(b"layer");
    let asked = AtomicUsize::new(0);
    let mock = with_tokens(&image, move |_| {
        let token = if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            r#"{"token":"revoked","expires_in":300}"#
        } else {
            r#"{"token":"good","expires_in":300}"#
        };
        Reply::new(200).body(token)
    });
    // The first pull gets the bad token and a refusal of it.
    let registry = registry();
    drop(pull(&registry, &mock));
    pull(&registry, &mock).expect("pull");
}

#[test]
fn refusals_say_which_credentials_were_shown() {
    let image = Image::new(b"layer");
    let mock = with_tokens(&image, |_| {
        Reply::new(401).body(r#"{"details":"incorrect username or password"}"#)
    });
    let error = pull(&registry(), &mock).expect_err("anonymous");
    assert_eq!(error.get_kind(), Kind::Denied);
    let login = format!("`sandcrab login {}`", mock.address);
    assert!(error.hints()[0].contains(&login), "{:?}", error.hints());

    let registry = registry_with(&mock.address, "user:hunter2");
    let error = pull(&registry, &mock).expect_err("wrong password");
    assert_eq!(error.get_kind(), Kind::Denied);
    assert!(error.chain().contains("incorrect username"), "{error:?}");
    let hint = error.hints()[0].to_string();
    assert!(hint.contains("`DOCKER_AUTH_CONFIG`"), "{hint}");
    assert!(!format!("{error:?}{hint}").contains("hunter2"));
}

#[test]
fn a_registry_over_tls_can_not_have_passwords_sent_in_the_clear() {
    use super::super::auth::{Access, Authenticator, Channel, Identity};
    use super::super::challenge::parse;
    use super::super::credentials::Found;
    use super::super::transport::{Transport, Trust};

    let spy = Mock::start(|_| Reply::new(200).body(r#"{"token":"t"}"#));
    let found = |credential| Found {
        credential,
        ..Found::default()
    };
    let password = Credential::Password {
        username: "user".into(),
        password: Secret::new("pw"),
    };
    let header = format!(r#"Bearer realm="http://{}/token""#, spy.address);
    let transport = Transport::default();
    let base = url::Url::parse("https://registry.invalid/").expect("url");
    let channel = Channel {
        transport: &transport,
        base: &base,
        trust: Trust::Verified,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let answer = |credential| {
        let identity = Identity::Given(found(credential).into());
        let auth = Authenticator::new("registry.invalid", identity);
        let access = Access::pull("a/b");
        let wanted = parse(&header);
        let respond = auth.respond(&wanted, &access, None, channel);
        runtime.block_on(respond)
    };
    let error = answer(Some(password)).expect_err("refused").into_error();
    assert!(error.to_string().contains("plain HTTP"), "{error}");
    assert!(spy.seen().is_empty());
    answer(None).expect("an anonymous token is no secret");
    assert_eq!(spy.seen().len(), 1);
}

#[test]
fn a_login_is_checked() {
    let image = Image::new(b"layer");
    let mock = with_tokens(&image, |seen| {
        let good = format!("Basic {}", STANDARD.encode("user:pw"));
        if seen.header("authorization") == Some(&good) {
            Reply::new(200).body(r#"{"token":"good"}"#)
        } else {
            Reply::new(401)
        }
    });
    let check = |password: &str| {
        let credential = Credential::Password {
            username: "user".into(),
            password: Secret::new(password),
        };
        registry().check_login(&mock.address, credential)
    };
    check("pw").expect("right");
    let error = check("other").expect_err("wrong");
    assert_eq!(error.get_kind(), Kind::Denied);
}
