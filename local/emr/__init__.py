"""A local EMR endpoint: it speaks the EMR API on loopback and really runs the steps, as child processes.

The protocol (request parsing, response shapes, regions, ARNs' partition) is moto's; the life of clusters and steps is
this package's. What differs from Amazon EMR on purpose:

- A cluster is this machine. Instances, fleets, scaling policies, security configurations and tags are recorded and
  described, nothing is provisioned; clusters are ready at once unless the endpoint is told to take its time.
- Bootstrap actions are recorded, not run: the Python environment of the endpoint stands for the image of the nodes.
- A step's ``command-runner.jar`` arguments run as they are, except for ``spark-submit``: pyspark's own is used, and
  YARN flags become those of a local master.
- Logs come when a step ends, not minutes later (unless a fault delays them), and ``LogUri`` may be a ``file://``
  folder. Executors of a ``local-cluster`` leave their logs as YARN's containers do.
- The endpoint's state is in its ``--state-dir``, and outlasts it: clusters and steps are found again by the next
  endpoint of that folder (one at a time). The processes of steps end with the endpoint, so that a step that ran is
  then FAILED, as after the loss of a node; ``clusters`` says what follows. Not kept: the fault scenario and its
  counters (a ``--faults`` file is read afresh), and security configurations.

Every service but EMR is refused, so that a mistaken client never believes that an emulator kept its data.

Modules: ``server`` (HTTP), ``api`` (EMR actions), ``registry`` (all clusters), ``clusters`` and ``steps`` (their
lives), ``endings`` (why clusters end), ``instances`` (what they seem to be made of), ``journal`` and ``records`` (what
outlasts the endpoint), ``shapes`` (their descriptions), ``validation`` (what EMR rejects), ``commands`` and
``environment`` (what a step's process gets), ``processes`` and ``guard`` (running it and ending all of it), ``logs``
and ``failures`` (what it leaves), ``scenario`` and ``faults`` (what goes wrong on demand), ``interference``,
``triggers``, ``harm`` and ``limits`` (making it go wrong: API calls, and steps in the middle), ``process`` (starting an
endpoint as a child process). ``docs/local-emr.md`` is for those who use it.
"""
