"""Calls DRS and MGN with the distribution's AWS CLI, as it is told: each line of standard input is a call, each line of
standard output what came of it. e2e/clients_peer_test.go is at the other end.

It is the CLI's own main function that is called, from arguments to what is printed; but once loaded for all calls, which
takes a second of CPU otherwise.
"""

import contextlib
import io
import json
import os
import re
import sys

from awscli.botocore import xform_name
from awscli.botocore.session import get_session
from awscli.clidriver import create_clidriver

FAILURE = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation(?: \([^)]*\))?: (.*)", re.DOTALL)


cli = create_clidriver()


def call(service, operation, input, paginate=False):
    args = ["--endpoint-url", os.environ["AWS_ENDPOINT_URL"], "--output", "json", service, xform_name(operation, "-"),
            "--cli-input-json", json.dumps(input)]
    if paginate:
        args += ["--page-size", "1"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(args)
    if code == 0:
        return {"output": json.loads(out.getvalue() or "{}")}
    failure = FAILURE.search(err.getvalue())
    if not failure or failure.group(2) != operation:
        raise RuntimeError(f"aws {args}: exit code {code}: {err.getvalue()}")
    return {"error": {"code": failure.group(1), "message": failure.group(3).strip(), "modelled": code == 254}}


def main():
    models = {s: get_session().get_service_model(s).operation_names for s in ("drs", "mgn")}
    print(json.dumps(models), flush=True)
    for line in sys.stdin:
        print(json.dumps(call(**json.loads(line))), flush=True)


main()
