"""A client in Python: submits one job, follows its log to the empty piece, and says how it ended.

Prints the log, and at the end one line `output: ...` or `error: ...`. With --cancel-at it cancels the job when its log has that text,
with --wait-for it connects, says `connected`, and submits when that file is there.
"""

import argparse
import asyncio
import json
import os

import capnp

from vat import SturdyRef, cluster, connect


async def main(args):
    submission, _connection = await connect(SturdyRef.load(args.cap), args.key, args.certificate)
    submission = submission.cast_as(cluster.Submission)
    if args.wait_for:
        # An answer, of any kind, shows that the sturdy ref was accepted.
        await accepted(submission)
        print("connected", flush=True)
        while not os.path.exists(args.wait_for):
            await asyncio.sleep(0.02)
    request = submission.submit_request()
    request.pool = args.pool
    request.urgent = args.urgent
    describe(request.init("descr"), args)
    ticket = request.send().ticket
    # Pipelined on an answer that is not here yet.
    job = ticket.job().job
    result = asyncio.ensure_future(outcome(job))
    await follow(job, ticket, args)
    print(await result, flush=True)


async def accepted(submission):
    request = submission.submit_request()
    request.pool = "no such pool"
    try:
        await request.send().ticket.job()
    except capnp.KjException as error:
        if "not one of" not in error.description:
            raise


def describe(descr, args):
    descr.cacheHint = args.hint
    if args.dockerfile is not None:
        descr.init("action").init("dockerBuild").init("dockerfile").contents = args.dockerfile
    else:
        custom = descr.init("action").init("custom")
        custom.kind = "test"
        custom.payload.set_as_text(json.dumps(json.loads(args.steps)))


async def follow(job, ticket, args):
    log, start = b"", 0
    while True:
        try:
            answer = await job.log(start)
        except capnp.KjException as error:
            print(f"log error: {text(error)}", flush=True)
            return
        if not answer.log:
            return
        log += answer.log
        start = answer.next
        print(answer.log.decode(), end="", flush=True)
        if args.cancel_at and args.cancel_at.encode() in log:
            args.cancel_at = None
            await (ticket.cancel() if args.by_ticket else job.cancel())


async def outcome(job):
    try:
        return f"output: {(await job.result()).output!r}"
    except capnp.KjException as error:
        return f"error: {text(error)}"


def text(error):
    """As OCluster's programs print errors. pycapnp's own mark for errors that came from afar says nothing to people."""
    return f"{error.type.capitalize()}: {error.description.removeprefix('remote exception: ')}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cap", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--pool", default="linux")
    parser.add_argument("--hint", default="")
    parser.add_argument("--urgent", action="store_true")
    parser.add_argument("--steps", default="[]")
    parser.add_argument("--dockerfile")
    parser.add_argument("--cancel-at")
    parser.add_argument("--by-ticket", action="store_true")
    parser.add_argument("--wait-for")
    asyncio.run(capnp.run(main(parser.parse_args())))
