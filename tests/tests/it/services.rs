//! `make services` in bad surroundings, without its installs: the scripts of `tests/live/services` with a toy for a
//! service, in a clone and a cache of their own.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use e2e::harness::Process;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// A service like the others. TOY says what goes wrong; `go` in the clone lets a slow install go on.
const TOY: &str = r#"
toy_wants() { :; }
toy_make() {
    touch "$clone/installing"
    if [ "$TOY" = slow ]; then until [ -e "$clone/go" ]; do read -r -t 0.05 <>"$clone/pipe" || true; done; fi
    echo installed >>"$cache/ledger"
    echo whole >file
}
toy_install() { place toy-1 toy_make; }
toy_launch() {
    case $TOY in
    dying) launch TERM bash -c 'echo "the toy has no spring"; exit 7' ;;
    *) launch TERM python3 -m http.server --bind 127.0.0.1 --directory "$cache/toy-1" "$1" ;;
    esac
}
toy_answers() { http /file; }
toy_start() {
    serve
    ready
    give TOY_PORT "$PORT"
    give TOY_PID "$PID"
}
"#;

/// A clone with only the scripts, and what ends its services.
struct Clone {
    folder: TempDir,
    cache: PathBuf,
}

impl Clone {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scripts = folder.path().join("clone/tests/live/services");
        fs::create_dir_all(&scripts).unwrap();
        for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/live/services")).unwrap() {
            let from = entry.unwrap().path();
            if from.is_file() {
                fs::copy(&from, scripts.join(from.file_name().unwrap())).unwrap();
            }
        }
        fs::write(scripts.join("toy.sh"), TOY).unwrap();
        // Another that ends well, to be seen ended with the toy.
        fs::write(scripts.join("other.sh"), TOY.replace("toy", "other").replace("$TOY", "fine")).unwrap();
        let pipe = folder.path().join("clone/pipe");
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        let cache = folder.path().join("cache");
        Self { folder, cache }
    }

    /// A second clone on the same machine.
    fn beside(&self) -> Self {
        let mut clone = Self::new();
        clone.cache.clone_from(&self.cache);
        clone
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("clone").join(below)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(self.path("tests/live/services").join(script));
        command.env("XDG_CACHE_HOME", &self.cache).env("TOY", "fine");
        // As .ci/run may have set them.
        command.env_remove("SERVICES_INSTALL_TOOLS").env_remove("SERVICES_TRY_PORT");
        command
    }

    fn start(&self, name: &str, toy: &str) -> Process {
        let mut command = self.command("up.sh");
        command.arg("toy").env("TOY", toy);
        Process::spawn("up.sh", command, &self.folder.path().join(name)).unwrap()
    }

    /// The exit code of a command, and what it printed on both streams.
    fn finish(mut command: Command) -> (i32, String) {
        let out = command.stdin(Stdio::null()).output().unwrap();
        let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (out.status.code().unwrap(), text)
    }

    fn up(&self, toy: &str) -> (i32, String) {
        let mut command = self.command("up.sh");
        command.arg("toy").env("TOY", toy);
        Self::finish(command)
    }

    fn down(&self) -> String {
        let (code, text) = Self::finish(self.command("down.sh"));
        assert_eq!(code, 0, "{text}");
        text
    }

    /// A number of the env file.
    fn gave(&self, name: &str) -> i32 {
        let env = fs::read_to_string(self.path(".services/env")).unwrap();
        let line = env.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
        line.unwrap().parse().unwrap()
    }

    fn answers(&self) -> bool {
        let port = u16::try_from(self.gave("TOY_PORT")).unwrap();
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    }

    fn installs(&self) -> usize {
        let ledger = self.cache.join("preannotate/services/ledger");
        fs::read_to_string(ledger).unwrap_or_default().lines().count()
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        // Best effort: what a failed test left running.
        fs::write(self.path("go"), "").ok();
        self.command("down.sh").stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

/// A process that ended and that nobody has asked for yet is not alive.
fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|fields| !fields.is_empty() && !fields.starts_with('Z'))
}

/// A process that the scripts know nothing of.
fn stranger(folder: &Path) -> Process {
    let mut command = Command::new("tail");
    command.args(["-f", "/dev/null"]);
    Process::spawn("tail", command, &folder.join("stranger.log")).unwrap()
}

#[test]
fn run_twice_and_down_end_exactly_their_own() {
    let clone = Clone::new();
    let mut stranger = stranger(clone.folder.path());
    let (code, text) = clone.up("fine");
    assert_eq!(code, 0, "{text}");
    let first = clone.gave("TOY_PID");
    let (code, text) = clone.up("fine");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("ended (pid {first})")), "{text}");
    assert!(text.contains("toy-1 is in the cache"), "{text}");
    let second = clone.gave("TOY_PID");
    assert!(!alive(first) && alive(second) && clone.answers());
    assert!(clone.down().contains(&format!("ended (pid {second})")));
    assert!(!alive(second) && !clone.path(".services/env").exists());
    assert!(stranger.is_running().unwrap());
    assert!(clone.down().contains("nothing was started in this clone"));
    assert_eq!(clone.installs(), 1);
}

#[test]
fn a_taken_port_is_given_up_for_another() {
    let clone = Clone::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut command = clone.command("up.sh");
    command.arg("toy").env("SERVICES_TRY_PORT", port.to_string());
    let (code, text) = Clone::finish(command);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("port {port} is taken by another process; trying another")), "{text}");
    assert_ne!(clone.gave("TOY_PORT"), i32::from(port));
    assert!(clone.answers());
}

#[test]
fn a_stale_pid_file_ends_no_stranger() {
    let clone = Clone::new();
    let mut stranger = stranger(clone.folder.path());
    let mut gone = Process::spawn("true", Command::new("true"), &clone.path("gone.log")).unwrap();
    gone.wait().unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.trim();
    let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.id())).unwrap();
    let start = stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap();
    let records = [
        format!("{} 1 {boot} TERM", gone.id()),
        // The pid went to another process since; and one of before the machine was started anew.
        format!("{} 1 {boot} TERM", stranger.id()),
        format!("{} {start} 00000000-0000-0000-0000-000000000000 TERM", stranger.id()),
        "what is this".to_owned(),
        stranger.id().to_string(),
    ];
    for record in records {
        fs::create_dir_all(clone.path(".services/pids")).unwrap();
        fs::write(clone.path(".services/pids/toy"), format!("{record}\n")).unwrap();
        let text = clone.down();
        assert!(text.contains("toy         was not running any more"), "{record}: {text}");
        assert!(stranger.is_running().unwrap(), "{record}");
    }
    fs::create_dir_all(clone.path(".services/pids")).unwrap();
    fs::write(clone.path(".services/pids/toy"), format!("{} 1 {boot} TERM\n", stranger.id())).unwrap();
    let (code, text) = clone.up("fine");
    assert_eq!(code, 0, "{text}");
    assert!(clone.answers() && stranger.is_running().unwrap());
}

#[test]
fn an_install_killed_in_its_middle_is_done_anew() {
    let clone = Clone::new();
    let mut run = clone.start("killed.log", "slow");
    run.until("install", || clone.path("installing").exists().then_some(())).unwrap();
    // All of it at once, as when the machine loses its power: the run, and the job in its own group.
    let children = format!("/proc/{0}/task/{0}/children", run.id());
    let children = fs::read_to_string(children).unwrap();
    run.kill().unwrap();
    for job in children.split_whitespace() {
        kill_process_group(Pid::from_raw(job.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    assert!(clone.cache.join("preannotate/services/toy-1.partial").exists());
    let (code, text) = clone.up("fine");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("toy-1: an earlier install was not finished; it is done anew"), "{text}");
    assert!(clone.answers());
    assert!(!clone.cache.join("preannotate/services/toy-1.partial").exists());
}

#[test]
fn an_interrupted_run_leaves_nothing_running() {
    let clone = Clone::new();
    let mut run = clone.start("interrupted.log", "slow");
    run.until("install", || clone.path("installing").exists().then_some(())).unwrap();
    run.terminate().unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(130), "{}", run.log());
    assert!(run.log().contains("interrupted; ending everything"), "{}", run.log());
    assert_eq!(clone.installs(), 0);
    let (code, text) = clone.up("fine");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn run_twice_at_once_in_one_clone() {
    let clone = Clone::new();
    let mut first = clone.start("first.log", "slow");
    first.until("install", || clone.path("installing").exists().then_some(())).unwrap();
    let mut second = clone.start("second.log", "fine");
    let log = clone.folder.path().join("second.log");
    let waits = || fs::read_to_string(&log).ok().filter(|text| text.contains("waiting for it"));
    second.until("wait", waits).unwrap();
    fs::write(clone.path("go"), "").unwrap();
    assert!(first.wait().unwrap().success(), "{}", first.log());
    assert!(second.wait().unwrap().success(), "{}", second.log());
    assert!(second.log().contains("up, by that run"), "{}", second.log());
    assert!(alive(clone.gave("TOY_PID")) && clone.answers());
}

#[test]
fn run_at_once_in_two_clones_with_one_cache() {
    let one = Clone::new();
    let two = one.beside();
    let mut first = one.start("first.log", "slow");
    first.until("install", || one.path("installing").exists().then_some(())).unwrap();
    let mut second = two.start("second.log", "fine");
    let log = two.folder.path().join("second.log");
    let waits = || fs::read_to_string(&log).ok().filter(|text| text.contains("another install of toy-1"));
    second.until("wait", waits).unwrap();
    fs::write(one.path("go"), "").unwrap();
    assert!(first.wait().unwrap().success(), "{}", first.log());
    assert!(second.wait().unwrap().success(), "{}", second.log());
    assert_eq!(one.installs(), 1);
    assert!(one.answers() && two.answers());
    let ended = one.gave("TOY_PID");
    one.down();
    assert!(!alive(ended) && two.answers());
}

#[test]
fn a_service_that_dies_at_start_is_named_with_its_log() {
    let clone = Clone::new();
    let mut command = clone.command("up.sh");
    command.args(["other", "toy"]).env("TOY", "dying");
    let (code, text) = Clone::finish(command);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("toy         FAILED while starting: it ended at once"), "{text}");
    assert!(text.contains("    the toy has no spring"), "{text}");
    assert!(text.contains("nothing is left running"), "{text}");
    assert!(!clone.path(".services/env").exists());
    assert_eq!(fs::read_dir(clone.path(".services/pids")).unwrap().count(), 0);
}

#[test]
fn missing_tools_are_named_with_their_packages() {
    let clone = Clone::new();
    // A PATH with what every Debian has, and no more.
    let bin = clone.path("bin");
    fs::create_dir(&bin).unwrap();
    for name in [
        "awk", "bash", "cat", "date", "dirname", "env", "find", "flock", "grep", "id", "mkdir", "mv", "od",
        "printf", "rm", "sed", "setpriv", "setsid", "sleep", "sort", "stat", "tail", "touch", "tr",
    ] {
        let from = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(name));
        symlink(from.iter().find(|path| path.exists()).unwrap(), bin.join(name)).unwrap();
    }
    let mut command = clone.command("up.sh");
    command.env("PATH", &bin);
    let (code, text) = Clone::finish(command);
    assert_eq!(code, 3, "{text}");
    for named in [
        "curl (install curl)",
        "g++ (install build-essential)",
        "go (install golang-go, 1.24.1 or newer",
        "java (install default-jre-headless)",
        "mvn (install maven)",
        "python3 (install python3)",
    ] {
        assert!(text.contains(&format!("services: missing: {named}")), "{named}: {text}");
    }
    // Told to install them, where apt-get is not.
    let mut command = clone.command("up.sh");
    command.env("PATH", &bin).env("SERVICES_INSTALL_TOOLS", "1");
    let (code, text) = Clone::finish(command);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("FAILED while installing tools: not on this machine: build-essential curl"),
        "{text}"
    );
}
