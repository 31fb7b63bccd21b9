"""Reads values of topics with fastavro, an implementation of Avro that is not ours, and writes them.

    python fastavro_values.py < cases.jsonl

A case a line: {"schema", "value", "single", "wire"}: an Avro schema, a value of it, and the bytes that tributary made of it
in hexadecimal, in single-object encoding and in a schema registry's wire format (schema id 7). Each is decoded and compared
with the value; the value is encoded and compared with the bytes. Prints a line per difference and, last, how many cases were
right. Ends with 1 if any was not.

    python fastavro_values.py --golden cases.jsonl > golden.jsonl      fills in "single" and "wire" of cases without them

In values {"$bytes": hex} is bytes and {"$double": "NaN"} a number that JSON has not.
"""

import io
import json
import math
import struct
import sys

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

WIRE_HEAD = struct.pack(">bI", 0, 7)


def plain(value):
    if isinstance(value, dict):
        if "$bytes" in value:
            return bytes.fromhex(value["$bytes"])
        if "$double" in value:
            return float(value["$double"])
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def equal(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, float) or isinstance(b, float):
        # JavaScript writes big doubles as whole numbers with their shortest digits: as doubles they are what they were.
        return struct.pack(">d", a) == struct.pack(">d", b) or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def body(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


def single_head(schema):
    # fastavro gives the bytes as they stand in the encoding, little-endian: of "int" 8f5c393f1ad57572.
    return b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def encodings(case):
    parsed = fastavro.parse_schema(case["schema"])
    encoded = body(parsed, plain(case["value"]))
    return {"single": single_head(case["schema"]) + encoded, "wire": WIRE_HEAD + encoded}


def wrong(case):
    parsed = fastavro.parse_schema(case["schema"])
    value = plain(case["value"])
    for kind, head in (("single", single_head(case["schema"])), ("wire", WIRE_HEAD)):
        given = bytes.fromhex(case[kind])
        if given[: len(head)] != head:
            return f"{kind}: begins with {given[:len(head)].hex()}, not {head.hex()}"
        rest = io.BytesIO(given[len(head) :])
        decoded = fastavro.schemaless_reader(rest, parsed)
        if rest.read(1):
            return f"{kind}: bytes are left over"
        if not equal(decoded, value):
            return f"{kind}: decodes to {decoded!r}"
        if encodings(case)[kind] != given:
            return f"{kind}: fastavro encodes it as {encodings(case)[kind].hex()}"
    return None


def main():
    golden = sys.argv[1:2] == ["--golden"]
    lines = open(sys.argv[2], encoding="utf-8") if golden else sys.stdin
    right = total = 0
    for line in lines:
        case = json.loads(line)
        if golden:
            filled = {**case, **{kind: data.hex() for kind, data in encodings(case).items()}}
            print(json.dumps(filled, ensure_ascii=False))
            continue
        total += 1
        problem = wrong(case)
        if problem is None:
            right += 1
        else:
            print(f"case {total}, {case['schema']['name']}: {problem}")
    if not golden:
        print(f"{right} of {total}")
        sys.exit(0 if right == total > 0 else 1)


main()
