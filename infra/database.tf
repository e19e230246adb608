# A warehouse made here, where var.warehouse_database asks for one: a PostgreSQL of RDS, reachable by the functions alone. Its
# password is known to nobody: RDS puts it into a secret, and rotates it each week.

locals {
  database = var.warehouse_database[*] # none or one

  # What RDS's own secret does not have.
  database_parameters = [
    for database in aws_db_instance.warehouse : {
      host        = database.address
      port        = tostring(database.port)
      dbname      = database.db_name
      sslmode     = "verify-full"
      sslrootcert = "/var/task/certificates.pem"
    }
  ]
}

resource "aws_db_subnet_group" "warehouse" {
  count = length(local.database)

  name        = "${local.name}-warehouse"
  description = "Where the warehouse of ${local.name} is"
  subnet_ids  = var.vpc.subnet_ids
}

resource "aws_security_group" "warehouse" {
  #checkov:skip=CKV2_AWS_5:The database is in it
  count = length(local.database)

  name        = "${local.name}-warehouse"
  description = "The warehouse of ${local.name}: whoever is to ask it gets a rule here"
  vpc_id      = var.vpc.id
}

resource "aws_vpc_security_group_ingress_rule" "warehouse" {
  count = length(local.database)

  security_group_id            = aws_security_group.warehouse[0].id
  description                  = "The functions"
  referenced_security_group_id = aws_security_group.functions[0].id
  from_port                    = 5432
  to_port                      = 5432
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "warehouse" {
  count = length(local.database)

  security_group_id            = aws_security_group.functions[0].id
  description                  = "The warehouse"
  referenced_security_group_id = aws_security_group.warehouse[0].id
  from_port                    = 5432
  to_port                      = 5432
  ip_protocol                  = "tcp"
}

resource "aws_db_instance" "warehouse" {
  #checkov:skip=CKV_AWS_118:Its metrics say enough of a database that is loaded four times an hour
  #checkov:skip=CKV_AWS_129:What is loaded is in the functions' logs
  #checkov:skip=CKV_AWS_157:It can be made again from the lake, so it is in one zone
  #checkov:skip=CKV_AWS_161:The functions read the secret that RDS rotates
  #checkov:skip=CKV_AWS_353:Its metrics say enough
  #checkov:skip=CKV2_AWS_30:Statements of people who ask have values in them
  count = length(local.database)

  identifier     = "${local.name}-warehouse"
  engine         = "postgres"
  engine_version = var.warehouse_database.version
  instance_class = var.warehouse_database.instance_class

  storage_type          = "gp3"
  allocated_storage     = var.warehouse_database.storage_gigabytes
  max_allocated_storage = var.warehouse_database.storage_gigabytes * 5
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  db_name                       = "warehouse"
  username                      = "totes_loader"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.kms_key_arn

  db_subnet_group_name   = aws_db_subnet_group.warehouse[0].name
  vpc_security_group_ids = [aws_security_group.warehouse[0].id]
  publicly_accessible    = false

  backup_retention_period    = 7
  auto_minor_version_upgrade = true
  copy_tags_to_snapshot      = true
  deletion_protection        = true
  skip_final_snapshot        = false
  final_snapshot_identifier  = "${local.name}-warehouse-final"
}
