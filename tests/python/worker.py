"""A worker in Python, which builds nothing: the Dockerfile of a job says what becomes of it.

`FROM good` succeeds with the output `made by python`, `FROM bad` fails, `FROM long` runs until it is cancelled, `FROM crash` kills the
worker once its log was read.
"""

import argparse
import asyncio
import os

import capnp

from vat import SturdyRef, cluster, connect


class Job(cluster.Job.Server):
    """One job: its log so far, and how it ended."""

    def __init__(self):
        self.text = b""
        self.output = None
        self.error = None
        self.over = False
        self.changed = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.asked_for = 0

    def note(self):
        self.changed.set()
        self.changed = asyncio.Event()

    def write(self, text):
        self.text += text.encode()
        self.note()

    def end(self, output=None, error=None):
        self.output, self.error, self.over = output, error, True
        self.note()

    async def log(self, start, **_):
        self.asked_for = start
        self.note()
        while len(self.text) <= start and not self.over:
            await self.changed.wait()
        piece = self.text[start : start + 10240]
        return piece, start + len(piece)

    async def result(self, **_):
        while not self.over:
            await self.changed.wait()
        if self.error:
            raise RuntimeError(self.error)
        return self.output

    async def cancel(self, **_):
        print("asked to cancel", flush=True)
        self.cancelled.set()


class Worker(cluster.Worker.Server):
    """The worker itself, as the scheduler sees it."""

    async def metrics(self, source, **_):
        return "text/plain; version=0.0.4", f'python_worker{{source="{source}"}} 1\n'

    async def selfUpdate(self, **_):
        raise RuntimeError("a worker in Python cannot update itself")

    async def additionalMetric(self, source, _context, **_):
        _context.results.init("metric").notReported = None


async def build(job, dockerfile, name):
    job.write(f"Building on {name}\n{dockerfile}\n")
    if "FROM good" in dockerfile:
        job.write("Job succeeded\n")
        job.end(output="made by python")
    elif "FROM long" in dockerfile:
        await job.cancelled.wait()
        job.write("Job cancelled\n")
        job.end(error="Build cancelled")
    elif "FROM crash" in dockerfile:
        # Who asks for what comes next has everything before.
        while job.asked_for < len(job.text):
            await job.changed.wait()
        print("crashing", flush=True)
        os._exit(3)
    else:
        job.write("no such thing\n")
        job.end(error="Build failed")


async def main(args):
    registration, _connection = await connect(SturdyRef.load(args.cap), args.key, args.certificate)
    registration = registration.cast_as(cluster.Registration)
    queue = (await registration.register(args.name, Worker(), 1)).queue
    await queue.setActive(True)
    while True:
        print("asking for a job", flush=True)
        job = Job()
        descr = (await queue.pop(job)).descr
        if descr.action.which() != "dockerBuild":
            job.write("not a Docker job\n")
            job.end(error="Build failed")
            continue
        print(f"got a job with the hint {descr.cacheHint!r}", flush=True)
        await build(job, descr.action.dockerBuild.dockerfile.contents, args.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cap", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--name", required=True)
    asyncio.run(capnp.run(main(parser.parse_args())))
