"""A machine of its own, as far as names and the network go: its own loopback, and its own /etc.

    with Machine(folder) as machine:
        machine.ask("127.0.0.1")
        run(*machine.prefix, "getent", "hosts", "leader.hstore.local", env=...)

All ports are free there, port 53 included, and what stands in /etc is ours: nothing of the real
machine is read or changed. It takes root, or to be it inside `unshare -rn`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from .cluster import eventually
from .network import set_namespace

# Brings loopback up, puts the folder in the place of /etc and nothing in that of /run, says so, and
# holds the namespaces until its standard input ends.
_HOLD = """
import fcntl, os, socket, struct, subprocess, sys
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 1))
subprocess.run(["mount", "--bind", sys.argv[1], "/etc"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
os.mkdir("/run/systemd")
print("up", flush=True)
sys.stdin.read()
"""


def is_permitted() -> bool:
    """Whether there can be such a machine here."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return os.geteuid() == 0  # whoever needs the program says so
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "mount", "--bind", "/etc", "/etc"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


class Machine:
    """Namespaces, and programs that run in them. Closes: all, at the end of `with`.

    Attributes:
        etc: Its /etc, where tests may write.
        prefix: The words that put a command there.
    """

    def __init__(self, folder: Path, hosts: Sequence[str] = ()) -> None:
        """`hosts`: addresses of a network beside loopback."""
        self.hosts = list(hosts)
        self.etc = folder / "etc"
        self.etc.mkdir(parents=True)
        self.prefix: list[str] = []
        self._folder = folder
        self._stack = ExitStack()
        self._pid = 0

    def __enter__(self) -> Self:
        """Make it."""
        # systemd-resolved takes no other user than its own; here that is whoever is root.
        users = ("root", "systemd-resolve")
        (self.etc / "passwd").write_text("".join(f"{one}:x:0:0::/:/bin/sh\n" for one in users))
        (self.etc / "group").write_text("root:x:0:\n")
        (self.etc / "hosts").write_text("127.0.0.1 localhost\n")
        shutil.copy("/etc/ld.so.cache", self.etc)
        self.look_up_by("files dns")
        self.ask("127.0.0.1")
        holder = subprocess.Popen(
            ["unshare", "--net", "--mount", sys.executable, "-c", _HOLD, str(self.etc)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._pid = holder.pid
        self._stack.callback(holder.communicate)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        self.prefix = ["nsenter", "--target", str(holder.pid), "--net", "--mount", "--"]
        if self.hosts:
            self._add_network()
        return self

    def __exit__(self, *_error: object) -> None:
        """End its programs, and with them the namespaces."""
        self._stack.close()

    def _add_network(self) -> None:
        """Give it an interface with all of `hosts`, and something at the other end of the cable."""
        lines = ["link add eth0 type veth peer name port0", "link set port0 up"]
        lines += [f"addr add {host}/24 dev eth0" for host in self.hosts]
        self._ip(*lines, "link set eth0 up")

    def _ip(self, *lines: str) -> None:
        ip = shutil.which("ip") or "/sbin/ip"
        text = "\n".join(lines) + "\n"
        subprocess.run([*self.prefix, ip, "-batch", "-"], input=text.encode(), check=True)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be in its network, though not at its files: this thread, and those that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            set_namespace(Path(f"/proc/{self._pid}/ns/net"))
            yield
        finally:
            set_namespace(Path(f"/proc/self/fd/{before}"))
            os.close(before)

    def look_up_by(self, sources: str) -> None:
        """Set the `hosts:` line of nsswitch.conf."""
        (self.etc / "nsswitch.conf").write_text(f"hosts: {sources}\n")

    def ask(self, *nameservers: str) -> None:
        """Set the servers of resolv.conf."""
        lines = [f"nameserver {one}\n" for one in nameservers]
        (self.etc / "resolv.conf").write_text("".join(lines) + "options timeout:1 attempts:3\n")

    def dnsmasq(self, host: str, forwarding: str, *options: str) -> None:
        """Run a dnsmasq at `host`, with a file that it includes as a distribution's would."""
        own = self._write(f"dnsmasq-{host}", forwarding)
        command = ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--port=53"]
        command += [f"--listen-address={host}", "--bind-interfaces", "--pid-file=", "--user=root"]
        # Whoever is root in a namespace of users only may not change groups.
        command += ["--group=", "--log-facility=-", f"--conf-file={own}", *options]
        self._serve(host, command)

    def unbound(self, host: str, forwarding: str, *options: str) -> None:
        """Run an unbound at `host`, likewise; `options` are lines of its server section."""
        own = self._write(f"unbound-{host}.included", forwarding)
        lines = [f"interface: {host}", 'username: ""', 'chroot: ""', 'pidfile: ""', *options]
        lines += [f'directory: "{self._folder}"', "use-syslog: no", "do-daemonize: no"]
        main = "server:\n" + "".join(f"    {line}\n" for line in lines)
        main += f'remote-control:\n    control-enable: no\ninclude: "{own}"\n'
        self._serve(host, ["unbound", "-d", "-c", str(self._write(f"unbound-{host}", main))])

    def bind(self, host: str, forwarding: str, *options: str) -> None:
        """Run a BIND at `host`; `options` are statements of its options."""
        self._ip(f"addr add {host}/32 dev lo")  # it looks for its address among the interfaces'
        own = self._write(f"bind-{host}.included", forwarding)
        lines = [f"listen-on {{ {host}; }}", "listen-on-v6 { none; }", "pid-file none", *options]
        lines += [f'directory "{self._folder}"', "session-keyfile none", "allow-query { any; }"]
        main = "options {\n" + "".join(f"    {line};\n" for line in lines) + "};\n"
        main += f'controls {{ }};\ninclude "{own}";\n'
        self._serve(host, ["named", "-g", "-n", "1", "-c", str(self._write(f"bind-{host}", main))])

    def knot(self, host: str, forwarding: str, *lines: str) -> None:
        """Run a Knot Resolver at `host`; `lines` of its configuration stand first."""
        main = "\n".join([f"net.listen('{host}', 53)", "cache.size = 10 * MB", *lines, forwarding])
        home = self._folder / f"knot-{host}"
        home.mkdir()
        file = self._write(f"knot-{host}", main)
        self._serve(host, ["kresd", "-n", "-c", str(file), str(home)])

    def resolved(self, forwarding: str) -> None:
        """Run a systemd-resolved, which answers at 127.0.0.53."""
        folder = self.etc / "systemd/resolved.conf.d"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hstore.conf").write_text(forwarding)
        self._serve("127.0.0.53", ["/lib/systemd/systemd-resolved"])

    def haproxy(self, snippet: str) -> None:
        """Run a HAProxy whose configuration ends with `snippet`."""
        head = "global\n    maxconn 1000\ndefaults\n    mode http\n    timeout connect 1s\n"
        head += "    timeout client 30s\n    timeout server 30s\n"
        file = self._write("haproxy", head + snippet)
        self._spawn("haproxy", ["haproxy", "-db", "-f", str(file)])

    def nginx(self, snippet: str) -> None:
        """Run an nginx that has `snippet` in its `http { }`."""
        own = self._write("nginx.included", snippet)
        lines = ["daemon off;", "master_process off;", "user root;", "error_log stderr warn;"]
        lines += [f"pid {self._folder}/nginx.pid;", "events { }", "http {", "access_log off;"]
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        lines += [f"{kind}_temp_path {self._folder}/nginx-{kind};" for kind in kinds]
        file = self._write("nginx", "\n".join([*lines, f"include {own};", "}", ""]))
        self._spawn("nginx", ["nginx", "-p", str(self._folder), "-e", "stderr", "-c", str(file)])

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / f"{name}.conf"
        path.write_text(text)
        return path

    def _serve(self, host: str, command: Sequence[str]) -> None:
        log, process = self._spawn(f"{Path(command[0]).name}-{host}", command)

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            words = ["dig", f"@{host}", "version.bind", "TXT", "CH", "+tries=1", "+time=1"]
            asked = subprocess.run(
                [*self.prefix, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
            return asked.returncode == 0

        eventually(listens, f"{command[0]} listens at {host}")

    def _spawn(self, name: str, command: Sequence[str]) -> tuple[Path, subprocess.Popen[bytes]]:
        log = self._folder / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*self.prefix, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.kill)
        return log, process
