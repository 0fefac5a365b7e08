//! Who a worker is to a server with access control.

use qscaler_worker::{Settings, connect};

use crate::fixture::{RedisServer, until};
use crate::sites::{Site, System};

/// A server that knows two users.
fn server() -> RedisServer {
    let server = RedisServer::start(&[]);
    for (user, password) in [("worker", ">its/own"), ("other", ">secret")] {
        let mut rights = redis::cmd("ACL");
        rights.arg(&["SETUSER", user, "on", password, "~*", "&*", "+@all"]);
        rights.exec(&mut server.connect().unwrap()).unwrap();
    }
    server
}

/// How many connections a user has.
fn connections(server: &RedisServer, user: &str) -> usize {
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.connect().unwrap()).unwrap();
    list.matches(&format!(" user={user} ")).count()
}

#[test]
fn user_and_password_come_from_the_environment() {
    let site = Site::new(System::Redis(server()));
    let System::Redis(server) = &site.system else { unreachable!() };
    let login = [("QSCALER_QUEUE_USERNAME", "worker"), ("QSCALER_QUEUE_PASSWORD", "its/own")];
    let mut worker = site.start("w", &login);
    until("it is there as that user", || (connections(server, "worker") > 0).then_some(()));
    site.push(["t 0".to_owned()]);
    until("it works", || (site.stories().values().map(|it| it.ended).sum::<usize>() == 1).then_some(()));
    worker.signal("TERM");
    assert!(worker.wait().success());
}

#[tokio::test]
async fn what_the_url_says_of_user_and_password_comes_first() {
    let server = server();
    let set = |url: &str| Settings::new(url, ["q"]).username("worker").password("its/own");
    let queue = connect(&set(&server.url())).await.unwrap();
    assert_eq!((connections(&server, "worker"), connections(&server, "other")), (1, 0));
    drop(queue);
    for (in_url, password) in [("other:secret", "its/own"), ("other", "secret")] {
        let url = server.url().replace("//", &format!("//{in_url}@"));
        let _queue = connect(&set(&url).password(password)).await.unwrap();
        assert_eq!(connections(&server, "other"), 1, "{in_url}");
    }
    let Err(error) = connect(&set(&server.url()).password("mine")).await else { panic!("accepted") };
    assert!(!error.to_string().contains("mine"), "{error}");
}
