"""What Python programs do to malloc: text parsed into objects, grouped, changed and written again.

usage: churn.py [batches]
"""

import json
import re
import sys

RECORDS = 60
FIELD = re.compile(r"(\w+)=([^;]*)")


class Order:
    def __init__(self, number, customer, items):
        self.number = number
        self.customer = customer
        self.items = items

    def total(self):
        return sum(price * count for price, count in self.items.values())


def text_of(batch):
    lines = []
    for i in range(RECORDS):
        number = batch * RECORDS + i
        items = "|".join(f"item{(number * k) % 97}:{k * 1.25}:{k}" for k in range(1, 7))
        lines.append(f"number={number};customer=customer{number % 31};items={items}")
    return "\n".join(lines)


def parse(text):
    for line in text.splitlines():
        fields = dict(FIELD.findall(line))
        items = {}
        for item in fields["items"].split("|"):
            name, price, count = item.split(":")
            items[name] = (float(price), int(count))
        yield Order(int(fields["number"]), fields["customer"], items)


def by_customer(orders):
    groups = {}
    for order in orders:
        groups.setdefault(order.customer, []).append(order)
    return {
        customer: {"numbers": [o.number for o in group], "total": sum(map(Order.total, group))}
        for customer, group in groups.items()
    }


def main():
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    archive = {}
    for batch in range(batches):
        written = json.dumps(by_customer(parse(text_of(batch))), indent=1)
        groups = json.loads(written)
        archive[f"batch:{batch}"] = max(groups, key=lambda customer: groups[customer]["total"])
    print(len(archive), len(set(archive.values())))


main()
