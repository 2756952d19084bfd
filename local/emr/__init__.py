"""A local EMR endpoint: it speaks the EMR API on loopback and really runs the steps, as child processes.

The protocol (parsing of requests, shapes of responses, regions, partitions of ARNs) is moto's. The states of clusters
and steps are this package's. Intended differences from Amazon EMR:

- A cluster is this machine. Instances, fleets, scaling policies, security configurations and tags are recorded and
  described; nothing is provisioned. A cluster is ready at once, unless ``--boot-seconds`` is set.
- Bootstrap actions are recorded, not run: the Python environment of the endpoint stands for the image of the nodes.
- The arguments of ``command-runner.jar`` run unchanged, except ``spark-submit``: pyspark's own is used, and YARN flags
  become flags of a local master.
- Logs are delivered when a step ends, not minutes later (unless a fault delays them). ``LogUri`` may be a ``file://``
  folder. Executors of a ``local-cluster`` leave logs as YARN's containers do.
- The endpoint saves its state in its ``--state-dir``. The next endpoint with that directory (one at a time) continues
  its clusters and steps. The processes of steps stop with the endpoint, so a step that ran is then FAILED, as after the
  loss of a node; see ``clusters.cluster``. The fault scenario and its counters (a ``--faults`` file is read again) and
  security configurations are not saved.

The endpoint refuses every service but EMR: a misconfigured client must not believe that an emulator stored its data.

Modules:

- ``server`` (HTTP), ``process`` (an endpoint as a child process), ``options`` (its settings)
- ``api``: the EMR actions (``actions``) and the shapes of their answers (``shapes``)
- ``clusters``: all clusters (``registry``), one cluster (``cluster``), its steps (``cluster_steps``) and its state
  (``cluster_state``), its ``instances``, why it terminates (``terminations``), the logs of a failed ``bootstrap``
  action, what EMR rejects (``validation``), the ``journal`` and the descriptions of clusters in it (``records``)
- ``spark``: the process of a step, its environment and its logs
- ``faults``: failures on demand

``docs/local-emr.md`` is for users of the endpoint.
"""
