"""Decodes values of topics with fastavro, an implementation of Avro that is not ours.

    python decode_values.py < lines

The first line: {"single": [schema, ...], "registry": {id: schema}}, Avro schemas by fingerprint and by a registry's id. Each
line after it: a value in hexadecimal, in single-object encoding or a registry's wire format. Prints each value as JSON, bytes
as {"$bytes": hex}. Ends with 1 for a value that cannot be decoded or has bytes left over.
"""

import io
import json
import struct
import sys

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

heads = {}
given = json.loads(sys.stdin.readline())
for schema in given["single"]:
    head = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    heads[head] = fastavro.parse_schema(schema, named_schemas={})
for number, schema in given["registry"].items():
    heads[struct.pack(">bI", 0, int(number))] = fastavro.parse_schema(schema, named_schemas={})

for line in sys.stdin:
    value = bytes.fromhex(line.strip())
    head = next(head for head in heads if value.startswith(head))
    rest = io.BytesIO(value[len(head) :])
    decoded = fastavro.schemaless_reader(rest, heads[head])
    assert not rest.read(1), "bytes are left over"
    print(json.dumps(decoded, default=lambda data: {"$bytes": data.hex()}))
