//! The tests on a real Kubernetes cluster: the images of their pods, and the cluster around them.

use std::path::PathBuf;
use std::time::Duration;

use crate::line::{Line, cargo, target};
use crate::part::Settings;
use crate::servers;

/// Tests that need the cluster stand in modules of this name.
pub(crate) const TESTS: &str = "cluster::";

/// So many of them run at once: for the most part each waits for the cluster.
const AT_ONCE: usize = 4;

/// All programs at once and with their examples, which is how the tests are built: nothing is built twice.
const BUILD: &str = "build --release --workspace --bins --examples";

/// An image that the pods of the tests are made of, `localhost/NAME:test`: one program of ours.
struct Image {
    name: &'static str,
    /// Below the folder of release builds.
    program: &'static str,
    /// Further files, as `SOURCE=PATH`.
    files: &'static str,
}

const IMAGES: [Image; 2] = [
    Image { name: "qscaler", program: "qscaler", files: "" },
    // `cat` asks, as an exec probe, for the file that a ready worker keeps.
    Image { name: "diarist", program: "examples/diarist", files: "/bin/cat=/bin/cat" },
];

/// Beyond it, Kubernetes cannot be built on this machine.
const BUILD_MAX: Duration = Duration::from_secs(60 * 60);

/// Brings what a node needs, and Kubernetes itself: where it is not there, it is built, once.
pub(crate) fn bring(settings: &Settings) -> Result<(), String> {
    if !servers::is_root() {
        return Err("the node of the test cluster needs root".into());
    }
    ["containerd", "runc", "openssl", "redis-server"].into_iter().try_for_each(servers::bring)?;
    Line::new("python3", "testdata/cluster/binaries.py", ".").run(settings, BUILD_MAX)
}

/// From the images to the tests.
pub(crate) fn commands() -> Vec<Line> {
    let images: Vec<String> = IMAGES.iter().map(Image::archive).collect();
    let mut lines = vec![down(), cargo(BUILD)];
    lines.extend(IMAGES.iter().map(Image::line));
    lines.push(command("up", &format!("{} {}", folder(), images.join(" "))));
    let tests = cargo(&format!("test --release --workspace -- {TESTS} --test-threads {AT_ONCE}"));
    lines.push(tests.with("QSCALER_CLUSTER", folder()).with("KUBECONFIG", folder() + "/admin.kubeconfig"));
    lines
}

/// Ends the cluster, if there is one.
pub(crate) fn down() -> Line {
    command("down", &folder())
}

impl Image {
    fn archive(&self) -> String {
        let folder = below_target("images");
        format!("{folder}/{}.tar", self.name)
    }

    fn line(&self) -> Line {
        let program = below_target("release") + "/" + self.program;
        let (name, archive) = (self.name, self.archive());
        command("image", &format!("localhost/{name}:test {archive} {program} {}", self.files))
    }
}

fn folder() -> String {
    below_target("cluster")
}

fn below_target(name: &str) -> String {
    target().join(name).display().to_string()
}

fn command(name: &str, arguments: &str) -> Line {
    let program: PathBuf = ["testdata", "cluster", name].iter().collect();
    Line::new(&program.display().to_string(), arguments, ".")
}
