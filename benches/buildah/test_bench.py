"""Tests of the benchmark itself: `python3 -m unittest discover -s benches/buildah`, part of `make test`."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import tempfile
import unittest
import urllib.request
from pathlib import Path
from xml.etree import ElementTree

import chart
from contestants import Result
from measure import Measure, StepFailed, run_measured
from proxy import Proxy
from registry import Registry
from report import Summary, row_of, thinned
from sampling import DiskSample, disk_use, parse_memory
from shards import Shard, make_shards, make_sparse

MIB = 1024**2
HERE = Path(__file__).resolve().parent


class TemporaryDirectory(unittest.TestCase):
    """A test with a directory of its own, on a real file system: tmpfs does not count as written."""

    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.addCleanup(holder.cleanup)
        self.directory = Path(holder.name)


class Sampling(TemporaryDirectory):
    def test_memory_is_read_in_bytes(self) -> None:
        self.assertEqual(parse_memory("Name:\tx\nVmHWM:\t  12 kB\nVmRSS:\t   5 kB\n"), (12 * 1024, 5 * 1024))

    def test_a_hard_link_counts_once_and_a_hole_not_at_all(self) -> None:
        (self.directory / "file").write_bytes(os.urandom(MIB))
        before = disk_use([self.directory])
        os.link(self.directory / "file", self.directory / "link")
        with (self.directory / "hole").open("wb") as file:
            file.truncate(100 * MIB)
        self.assertGreaterEqual(before, MIB)
        self.assertLess(disk_use([self.directory]), before + MIB)

    def test_a_directory_that_is_not_there_uses_nothing(self) -> None:
        self.assertEqual(disk_use([self.directory / "none"]), 0)


class Measuring(TemporaryDirectory):
    def run_shell(self, script: str) -> Measure:
        command = ["bash", "-c", script, "test", str(self.directory)]
        return run_measured(command, dict(os.environ), lambda: disk_use([self.directory]), lambda: 0)

    def test_writes_of_children_are_counted(self) -> None:
        measure = self.run_shell('(dd if=/dev/zero of="$1/file" bs=1M count=3 2>/dev/null); true')
        self.assertAlmostEqual(measure.written, 3 * MIB, delta=128 * 1024)
        self.assertAlmostEqual(measure.written_rusage, 3 * MIB, delta=128 * 1024)
        self.assertGreaterEqual(measure.peak_disk, 3 * MIB)

    def test_what_is_printed_does_not_count_as_written(self) -> None:
        self.assertLess(self.run_shell("head -c 2000000 /dev/zero").written, 64 * 1024)

    def test_memory_is_the_tools_own(self) -> None:
        ballast = bytearray(os.urandom(64 * MIB))
        self.assertLess(self.run_shell("true").peak_memory, 32 * MIB)
        self.assertEqual(len(ballast), 64 * MIB)

    def test_cpu_of_children_is_counted(self) -> None:
        measure = self.run_shell("(i=0; while ((i < 100000)); do i=$((i + 1)); done); true")
        self.assertGreater(measure.cpu_seconds, 0.02)

    def test_a_failure_shows_what_the_tool_said(self) -> None:
        with self.assertRaisesRegex(StepFailed, "no such luck"):
            self.run_shell("echo no such luck; exit 3")


class Uploading(TemporaryDirectory):
    def test_the_floor_sends_every_shard(self) -> None:
        shards = make_shards(self.directory / "context", MIB + 1, 2)
        listing = "".join(f"{shard.digest} {shard.path}\n" for shard in shards)
        with Registry(self.directory / "registry") as registry:
            command = [str(HERE / "floor.sh"), registry.address, "a/b", "2"]
            run_measured(command, dict(os.environ), lambda: 0, registry.disk_use, listing)
            for shard in shards:
                url = f"http://{registry.address}/v2/a/b/blobs/{shard.digest}"
                with urllib.request.urlopen(url) as answer:
                    self.assertEqual(hashlib.sha256(answer.read()).hexdigest(), shard.digest[7:])
            self.assertGreater(registry.disk_use(), MIB)

    def test_a_wrong_digest_fails(self) -> None:
        shard = make_shards(self.directory / "context", 1000, 1)[0]
        wrong = Shard(shard.path, shard.size, f"sha256:{0:064}")
        with Registry(self.directory / "registry") as registry, self.assertRaises(StepFailed):
            command = [str(HERE / "floor.sh"), registry.address, "a/b", "1"]
            run_measured(command, dict(os.environ), lambda: 0, lambda: 0, f"{wrong.digest} {wrong.path}\n")


@unittest.skipUnless(shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin"), "no haproxy here")
class Proxying(TemporaryDirectory):
    def test_a_registry_answers_through_the_proxy(self) -> None:
        with Registry(self.directory / "registry") as registry:
            for tls in (False, True):
                with Proxy(self.directory / "proxy", registry.address, tls) as proxy:
                    scheme = "https" if tls else "http"
                    context = ssl.create_default_context(cafile=proxy.certificates / "ca.crt") if tls else None
                    request = urllib.request.Request(f"{scheme}://{proxy.address}/v2/a/b/blobs/uploads/", method="POST")
                    with urllib.request.urlopen(request, context=context) as answer:
                        self.assertTrue(answer.headers["Location"].startswith(f"{scheme}://{proxy.address}/"))


class Shards(TemporaryDirectory):
    def test_shards_add_up_and_are_kept(self) -> None:
        first = make_shards(self.directory, 1001, 3)
        self.assertEqual(sorted(shard.size for shard in first), [333, 334, 334])
        self.assertEqual(make_shards(self.directory, 1001, 3), first)
        self.assertEqual(len(make_shards(self.directory, 1001, 1)), 1)
        self.assertEqual(len(list((self.directory / "models").iterdir())), 1)

    def test_a_sparse_file_occupies_nothing(self) -> None:
        make_sparse(self.directory, 10 * MIB)
        self.assertLess(disk_use([self.directory]), MIB)


def result(contestant: str, seconds: float, written: int = 0, memory: int = 0, build: float = 0) -> Result:
    samples = [DiskSample(0, 0, 0), DiskSample(seconds, written, 5)]
    push = Measure(seconds=seconds, written=written, peak_memory=memory, disk=samples)
    built = Measure(seconds=build, disk=samples) if build else None
    return Result(contestant, built, push, registry_cpu=1.0, registry_disk=5, commands=["run it"])


def summary(results: list[Result]) -> Summary:
    facts = {"CPU": "one & <only>"}
    return Summary(results, {2.0: Measure(peak_memory=MIB)}, facts, 4 * MIB, 2, 4, "make bench")


class Reporting(unittest.TestCase):
    def test_times_are_medians_and_bounds_are_the_worst(self) -> None:
        row = row_of([result("crossdock", s, written=w) for s, w in ((3, 10), (1, 99), (2, 20))])
        self.assertEqual((row.total, row.fastest, row.slowest, row.written), (2, 1, 3, 99))

    def test_a_build_comes_before_its_push(self) -> None:
        row = row_of([result("buildah-vfs", 2, build=3)])
        self.assertEqual((row.build, row.push, row.total), (3, 2, 5))
        self.assertEqual([s.seconds for s in row.timeline], [0, 2, 3, 5])

    def test_goals_are_met_or_missed_in_so_many_words(self) -> None:
        good = summary([result("floor", 10), result("crossdock", 13), result("crossdock-again", 0.1)])
        self.assertNotIn("MISSED", good.goals())
        slow = result("crossdock", 14, written=2 * MIB, memory=200 * MIB)
        bad = summary([result("floor", 10), slow, result("crossdock-again", 1), result("buildah-vfs", 100)])
        self.assertEqual(bad.goals().count("MISSED"), 4)

    def test_tls_is_measured_against_the_same_proxy(self) -> None:
        for seconds, word in ((12, "- met: over TLS"), (13, "MISSED")):
            results = [result("crossdock", 5), result("crossdock-proxy", 10), result("crossdock-tls", seconds)]
            self.assertIn(word, summary(results).goals())

    def test_a_missing_contestant_leaves_no_gap(self) -> None:
        text = summary([result("crossdock", 1), result("crossdock-again", 1)]).markdown()
        self.assertIn("crossdock build --push", text)
        self.assertNotIn("buildah vfs: bud", text)

    def test_thinning_keeps_the_peak(self) -> None:
        samples = [DiskSample(i, 7 if i == 501 else 1, 0) for i in range(1000)]
        self.assertIn(samples[501], thinned(samples))
        self.assertLess(len(thinned(samples)), 200)

    def test_the_chart_is_well_formed(self) -> None:
        results = [result("floor", 1), result("crossdock", 1.2), result("buildah-vfs", 9, MIB, build=4)]
        picture = ElementTree.fromstring(chart.draw(summary(results)))
        words = "".join(picture.itertext())
        self.assertIn("buildah vfs", words)
        self.assertIn("GiB", words)

    def test_ticks_are_round_and_few(self) -> None:
        for top in (0.1, 0.7, 1, 6, 48, 480):
            ceiling = chart.nice_ceiling(top)
            self.assertGreaterEqual(ceiling, top)
            self.assertIn(len(chart.ticks(ceiling)), range(4, 10))


if __name__ == "__main__":
    unittest.main()
