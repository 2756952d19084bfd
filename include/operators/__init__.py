"""The provider's EMR operators, adapted to this project.

Before its first call, each operator checks that the client resolves to an address that the profile allows. Each request
is sent once; :mod:`include.emr.client` decides what may be repeated. A retried task attaches to the cluster or step
that its earlier attempt created; a cleared task replaces a terminated cluster once. A missing console link never fails
a task.
"""
